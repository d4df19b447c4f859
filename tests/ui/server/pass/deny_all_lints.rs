//! Expansions break none of the lints that a strict crate denies.
#![deny(warnings, missing_docs, unused, clippy::all, clippy::pedantic)]
#![allow(unknown_lints)]

use std::io;
use std::process::ExitCode;

use aioxide::{Worker, actxmgr, server};

#[actxmgr]
async fn database() -> u16 {
    yield_(5432).await;
}

async fn metrics(worker: Worker) {
    worker.stopping().await;
}

fn log() {}

/// Echoes.
#[server(
    workers = 1,
    main = database,
    extra = [metrics],
    init = log,
    stop_signals = [SIGINT],
    shutdown_timeout = 25s,
    on_failure = restart,
    max_restarts = 3,
    run_to_completion
)]
pub async fn echo(worker: Worker, port: u16, (a, _): (u8, u8), _unused: u8) -> io::Result<()> {
    let stop = yield_().await;
    if worker.index() > 7 {
        return Err(io::Error::other(format!("{stop} {port} {a}")));
    }
    Ok(())
}

/// As many arguments as clippy allows.
#[server(workers = 1, run_to_completion)]
pub async fn seven(_: Worker, one: u8, two: u8, three: u8, four: u8, five: u8, six: u8) {
    yield_().await;
    assert_eq!(one + two + three + four + five + six, 21);
}

fn main() -> ExitCode {
    assert_eq!(seven(1, 2, 3, 4, 5, 6).run(), ExitCode::SUCCESS);
    echo((1, 2), 3).run()
}
