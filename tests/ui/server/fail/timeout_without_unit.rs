use aioxide::{Worker, server};

#[server(shutdown_timeout = 25)]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
