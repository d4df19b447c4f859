#![deny(warnings)]

use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    yield_();
    worker.stopping().await;
}

fn main() -> std::process::ExitCode {
    echo().run()
}
