use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) -> usize {
    yield_().await;
    worker.index()
}

fn main() -> std::process::ExitCode {
    echo().run()
}
