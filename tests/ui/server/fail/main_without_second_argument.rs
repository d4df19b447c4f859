use aioxide::{Worker, actxmgr, server};

#[actxmgr]
async fn database() -> u32 {
    yield_(5432).await;
}

#[server(main = database)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
