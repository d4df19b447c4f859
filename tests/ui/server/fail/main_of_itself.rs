use aioxide::{Worker, actxmgr, server};

#[actxmgr]
async fn database(port: u16) -> u16 {
    yield_(port).await;
}

#[server(main = database(main))]
async fn echo(worker: Worker, database: u16) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
