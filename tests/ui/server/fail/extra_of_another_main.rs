use aioxide::{Worker, actxmgr, server};

#[actxmgr]
async fn database() -> u16 {
    yield_(5).await;
}

async fn exporter(worker: Worker, database: String) {
    println!("exports {database}");
    worker.stopping().await;
}

#[server(main = database, extra = [exporter(main)])]
async fn echo(worker: Worker, database: u16) {
    println!("{} uses {database:?}", worker.index());
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
