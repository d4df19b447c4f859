//! A program that runs two servers, one after the other.

use std::process::ExitCode;

use aioxide::{Worker, server};
use aioxide_tests::fixture;
use tracing::info;

#[server(isolation = process, workers = 2, run_to_completion)]
async fn first(worker: Worker) {
    yield_().await;
    info!(worker = worker.index(), pid = std::process::id(), "first");
}

#[server(isolation = process, workers = 2, run_to_completion)]
async fn second(worker: Worker) {
    yield_().await;
    info!(worker = worker.index(), pid = std::process::id(), "second");
}

fn main() -> ExitCode {
    fixture::log();
    match first().run() {
        ExitCode::SUCCESS => second().run(),
        failure => failure,
    }
}
