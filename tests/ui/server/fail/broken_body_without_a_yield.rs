use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    worker.
}

fn main() -> std::process::ExitCode {
    echo().run()
}
