use aioxide::{Worker, server};

#[server(main = "database")]
async fn echo(worker: Worker, database: u32) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
