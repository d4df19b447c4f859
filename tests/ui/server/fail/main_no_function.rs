use aioxide::{Worker, server};

const DATABASE: u32 = 5432;

#[server(main = DATABASE)]
async fn echo(worker: Worker, database: u32) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
