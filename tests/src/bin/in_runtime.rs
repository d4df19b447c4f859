//! Runs a server where none may be run: inside a tokio runtime.

use std::process::ExitCode;

use aioxide::{Worker, server};

#[server(workers = 1)]
async fn in_runtime(_worker: Worker) {
    let _stop = yield_().await;
}

#[tokio::main]
async fn main() -> ExitCode {
    in_runtime().run()
}
