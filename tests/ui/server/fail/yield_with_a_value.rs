use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    yield_(worker.index()).await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
