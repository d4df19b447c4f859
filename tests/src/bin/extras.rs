//! A server with an asynchronous and a synchronous extra beside its workers.
//!
//! `AIOXIDE_FAULT` in the environment says what goes wrong with those: `router`, `router-ends`, `slow-start`, `ends`,
//! `exit-handler`, `successor`, `start` or nothing.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Worker, server, worker_index};
use aioxide_tests::fixture;
use clap::Parser;
use tokio::io::AsyncWriteExt;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
}

fn has_fault(fault: &str) -> bool {
    std::env::var("AIOXIDE_FAULT").is_ok_and(|value| value == fault)
}

/// Hangs when it is dropped, as the thread ends.
struct Hanging;

impl Drop for Hanging {
    fn drop(&mut self) {
        info!("hangs at its end");
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

thread_local!(static EXIT_HANDLER: Hanging = const { Hanging });

/// Says hello on a port of its own; fails when it is told.
async fn metrics(worker: Worker) -> io::Result<()> {
    let mut reloads = worker.reloads();
    if has_fault("slow-start") {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if has_fault("start") || has_fault("successor") && worker.generation() == 1 {
        return Err(io::Error::other("the fixture's error at its start"));
    }
    let listener = worker.listen(fixture::address()).await?;
    info!(index = ?worker_index(), address = %listener.local_addr()?, pid = std::process::id(), "metrics: set up");
    let serving = worker.serve(listener, async |mut stream| {
        stream.write_all(b"hello").await
    });
    let stop = tokio::select! {
        stop = worker.stopping() => stop,
        Some(()) = reloads.recv() => {
            if has_fault("exit-handler") {
                EXIT_HANDLER.with(|_| ());
            }
            if has_fault("ends") || has_fault("exit-handler") {
                return Ok(());
            }
            return Err(io::Error::other("the fixture's error"));
        }
    };
    serving.drain(&stop).await;
    info!("metrics: torn down: {stop}");
    Ok(())
}

/// With `AIOXIDE_FAULT=router` in the environment it fails when it is to stop, for which it doesn't wait.
fn router(worker: Worker) -> io::Result<()> {
    info!(index = ?worker_index(), pid = std::process::id(), "router: set up");
    if has_fault("router-ends") {
        return Ok(());
    }
    if has_fault("router") {
        while !worker.is_stopping() {
            std::thread::sleep(Duration::from_millis(5));
        }
        return Err(io::Error::other("the fixture's error on stopping"));
    }
    let stop = worker.stopped_blocking();
    info!("router: torn down: {stop}");
    Ok(())
}

#[server(extra = [metrics, router])]
async fn extras(worker: Worker) {
    info!(worker = worker.index(), pid = std::process::id(), "set up");
    let stop = yield_().await;
    info!(worker = worker.index(), "torn down: {stop}");
}

fn main() -> ExitCode {
    let options = Options::parse().server;
    fixture::log();
    options.apply(extras()).run()
}
