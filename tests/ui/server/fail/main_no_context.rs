use aioxide::{Worker, server};

async fn database() -> u32 {
    5432
}

#[server(main = database)]
async fn echo(worker: Worker, database: u32) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
