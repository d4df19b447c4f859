use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    worker.stopping().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
