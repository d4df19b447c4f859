use aioxide::{Worker, actxmgr, server};

#[actxmgr]
async fn database() -> u16 {
    yield_(5432).await;
}

#[server(mian = database)]
async fn echo(worker: Worker, database: u16) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
