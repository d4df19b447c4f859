//! A server whose options are calls with, and expressions of, the caller's arguments.

use std::io;
use std::process::ExitCode;

use aioxide::{Addresses, Isolation, OnFailure, Worker, actxmgr, server};
use aioxide_tests::fixture;
use clap::Parser;
use serde::{Deserialize, Serialize};
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[arg(long)]
    isolation: Isolation,
    #[arg(long, default_value_t)]
    on_failure: OnFailure,
    #[arg(long, default_value = "a text")]
    text: String,
    #[arg(long, default_value_t = 7)]
    number: u16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Shared(String);

#[actxmgr]
async fn shared(text: String, times: usize) -> Shared {
    let exit = yield_(Shared(text.repeat(times))).await.1;
    info!("main context: {exit}");
}

mod parts {
    use super::*;

    pub(super) async fn router(worker: Worker, number: u16) {
        info!(number, pid = std::process::id(), "router: set up");
        worker.stopping().await;
    }

    pub(super) fn plain(worker: Worker) {
        worker.stopped_blocking();
    }
}

/// Fails once it is told.
async fn exporter(worker: Worker, shared: Shared, number: u16) -> io::Result<()> {
    let mut reloads = worker.reloads();
    let listener = worker.listen("127.0.0.1:0").await?;
    info!(
        number,
        ?shared,
        pid = std::process::id(),
        "exporter: set up"
    );
    let serving = worker.serve(listener, async |stream| drop(stream));
    let stop = tokio::select! {
        stop = worker.stopping() => stop,
        Some(()) = reloads.recv() => return Err(io::Error::other("the fixture's error")),
    };
    serving.drain(&stop).await;
    Ok(())
}

/// Synchronous, and with nothing but the main context's value.
fn blocking(worker: Worker, shared: Shared) {
    info!(?shared, "blocking: set up");
    worker.stopped_blocking();
}

fn announce(addresses: &Addresses) {
    info!(pid = std::process::id(), "announced: {addresses}");
}

#[server(
    workers = 2,
    isolation = options.isolation,
    on_failure = on_failure,
    main = shared(options.text, 2),
    extra = [parts::router(options.number), parts::plain, exporter(main, options.number + 1), blocking(main)],
    on_ready = announce,
)]
async fn arguments(worker: Worker, shared: Shared, options: Options, on_failure: OnFailure) {
    let (text, pid) = (&options.text, std::process::id());
    info!(worker = worker.index(), pid, ?shared, text, %on_failure, "set up");
    let _stop = yield_().await;
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    let on_failure = options.on_failure;
    arguments(options, on_failure).run()
}
