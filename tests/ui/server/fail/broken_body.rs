use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    yield_().await;
    worker.
}

fn main() -> std::process::ExitCode {
    echo().run()
}
