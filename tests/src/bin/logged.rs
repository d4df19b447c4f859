//! A server that logs a line in each worker, and ends once it has.

use std::process::ExitCode;

use aioxide::{Isolation, Worker, server};

#[server(workers = 2, run_to_completion, init = aioxide::logging::init)]
async fn logged(worker: Worker) {
    tracing::info!(generation = worker.generation(), "hello");
    let _stop = yield_().await;
}

fn main() -> ExitCode {
    let isolation = match std::env::args().nth(1).as_deref() {
        Some("process") => Isolation::Process,
        _ => Isolation::Thread,
    };
    logged().isolation(isolation).run()
}
