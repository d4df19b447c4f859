//! A user's crate: of the edition before, with strict lints, and with aioxide under another name.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unused, clippy::all, clippy::pedantic)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use renamed::{actxmgr, server, timer, Tick, Worker};

/// A connection.
///
/// # Errors
///
/// When the port is taken.
#[actxmgr(crate = renamed, setup_timeout = 5s)]
pub async fn connection(port: u16) -> io::Result<u16> {
    if port == 0 {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let (port, exit) = yield_(port).await;
    let _ = (port, exit);
    Ok(())
}

#[actxmgr(crate = renamed)]
async fn database() -> u16 {
    yield_(5432).await;
}

async fn metrics(worker: Worker) {
    worker.stopping().await;
}

fn log() {}

/// Echoes.
#[server(
    crate = renamed,
    workers = workers,
    isolation = thread,
    main = database,
    extra = [metrics],
    init = log,
    stop_signals = [SIGINT],
    shutdown_timeout = 25s,
    on_failure = restart,
    max_restarts = 3,
    run_to_completion
)]
pub async fn echo(
    worker: Worker,
    port: u16,
    workers: usize,
    (a, _): (u8, u8),
    _unused: u8,
) -> io::Result<()> {
    let stop = tokio::select! {
        stop = yield_() => stop,
        () = std::future::pending() => return Ok(()),
    };
    if worker.count() != workers {
        return Err(io::Error::other(format!("{stop} {port} {a}")));
    }
    Ok(())
}

/// As many arguments as clippy allows.
#[server(crate = renamed, workers = 1, run_to_completion)]
pub async fn seven(_: Worker, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {
    yield_().await;
    assert_eq!(a + b + c + d + e + f, 21);
}

/// Beats.
#[timer(100ms, crate = renamed, overlap = cancel, missed = burst(2), grace = grace)]
pub async fn heartbeat(
    _tick: Tick,
    peers: Arc<u32>,
    grace: Duration,
    (a, _): (u8, u8),
) -> Result<(), String> {
    if *peers > 7 {
        return Err(format!("{a} {grace:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitCode;

    #[test]
    fn servers_run() {
        assert_eq!(echo(2, (1, 2), 3).run(), ExitCode::SUCCESS);
        assert_eq!(seven(1, 2, 3, 4, 5, 6).run(), ExitCode::SUCCESS);
    }

    #[tokio::test]
    async fn contexts_and_timers_run() {
        let guard = connection(5432).await.expect("the port is free");
        assert_eq!(*guard, 5432);
        guard.exit().await.expect("nothing goes wrong");
        assert!(connection(0).await.is_err());
        heartbeat(Arc::new(7), Duration::from_secs(1), (1, 2))
            .stop()
            .await;
    }
}
