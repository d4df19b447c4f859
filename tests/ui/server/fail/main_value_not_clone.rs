use aioxide::{Worker, actxmgr, server};

#[derive(Debug)]
struct Database;

#[actxmgr]
async fn database() -> Database {
    yield_(Database).await;
}

#[server(main = database)]
async fn echo(worker: Worker, database: Database) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
