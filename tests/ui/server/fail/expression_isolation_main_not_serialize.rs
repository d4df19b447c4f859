use aioxide::{Isolation, Worker, actxmgr, server};

#[derive(Clone)]
struct Database;

#[actxmgr]
async fn database() -> Database {
    yield_(Database).await;
}

#[server(isolation = isolation, main = database)]
async fn echo(worker: Worker, database: Database, isolation: Isolation) {
    let _ = (worker, database, isolation);
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo(Isolation::Process).run()
}
