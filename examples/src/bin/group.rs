//! A thousand contexts entered at once, as one: all of them are there, or none is left.
//!
//! ```text
//! cargo run --release -p aioxide-examples --bin group -- --sessions 1000 --failing 500
//! ```
//!
//! Without `--failing` all sessions are opened, used and closed.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aioxide::{actxmgr, group};
use clap::Parser;
use tokio::time::sleep;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Opens many sessions at once.
#[derive(Parser)]
struct Options {
    /// How many.
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Which one is refused, from 0; if none is given, none is.
    #[arg(long)]
    failing: Option<usize>,
}

#[derive(Default)]
struct Tally {
    opened: AtomicUsize,
    closed: AtomicUsize,
}

/// A session with a server far away: to open and to close it takes time.
#[actxmgr]
async fn session(number: usize, refused: bool, tally: Arc<Tally>) -> io::Result<usize> {
    sleep(Duration::from_millis(100 + number as u64 % 100)).await;
    if refused {
        return Err(io::Error::other(format!("session {number} is refused")));
    }
    tally.opened.fetch_add(1, Ordering::Relaxed);
    yield_(number).await;
    sleep(Duration::from_millis(100)).await;
    tally.closed.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(io::stderr)
        .init();

    let tally = Arc::new(Tally::default());
    let start = Instant::now();
    let sessions = (0..options.sessions).map(|number| {
        let refused = options.failing == Some(number);
        session(number, refused, Arc::clone(&tally))
    });
    let used = group(sessions)
        .with(async |sessions| {
            info!("{} sessions are open", sessions.len());
            Ok::<usize, io::Error>(sessions.iter().map(|session| **session).sum())
        })
        .await;

    // Of the sessions that had been opened none is left, in either case.
    let opened = tally.opened.load(Ordering::Relaxed);
    let closed = tally.closed.load(Ordering::Relaxed);
    info!(opened, closed, "ended after {:.1?}", start.elapsed());
    match used {
        Ok(sum) => {
            info!("used all sessions: {sum}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}
