use aioxide::{Worker, server};

#[server(main)]
async fn echo(worker: Worker, database: u16) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
