use aioxide::{Worker, actxmgr, server};

#[derive(Clone, Debug)]
struct Database;

#[actxmgr]
async fn database() -> Database {
    yield_(Database).await;
}

#[server(isolation = process, main = database)]
async fn echo(worker: Worker, database: Database) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
