//! An HTTP server on axum: a stop lets every request that is under way finish, and takes no new ones.
//!
//! ```text
//! cargo run --release -p aioxide-examples --features http --bin http -- --listen 127.0.0.1:8080 --workers 4
//! ```
//!
//! `curl 127.0.0.1:8080/` is answered at once, `curl 127.0.0.1:8080/after/5000` after five seconds: press Ctrl-C
//! meanwhile.
//!
//! A connection that has said nothing yet is closed when its worker stops, which is how axum does it. The example
//! `shorten` serves each connection itself, and loses no request in a rolling restart.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aioxide::{Isolation, Worker, actxmgr, server};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use clap::Parser;
use tracing::info;

/// Answers HTTP requests, some of them slowly.
#[derive(Clone, Parser)]
struct Options {
    /// Where to listen: an address or a host name, with a port; port 0 picks a free one.
    #[arg(long, short, default_value = "127.0.0.1:8080")]
    listen: String,
    /// How many workers.
    #[arg(long, short, default_value_t = 4)]
    workers: usize,
    /// What a worker is: `thread` or `process`.
    #[arg(long, default_value_t)]
    isolation: Isolation,
    /// How long requests that are under way are waited for when the server is stopped, in seconds.
    #[arg(long, default_value_t = 25)]
    shutdown_timeout: u64,
}

/// What the requests of one worker share.
struct Site {
    worker: usize,
    answered: AtomicU64,
}

/// From a worker's start until its last request is answered.
#[actxmgr]
async fn site(worker: usize) -> Arc<Site> {
    let site = Site {
        worker,
        answered: AtomicU64::new(0),
    };
    let (site, exit) = yield_(Arc::new(site)).await;
    let answered = site.answered.load(Ordering::Relaxed);
    info!(worker, answered, "torn down: {exit}");
}

async fn hello(State(site): State<Arc<Site>>) -> String {
    site.answered.fetch_add(1, Ordering::Relaxed);
    format!("hello from worker {}\n", site.worker)
}

/// Stands for a request that takes its time.
async fn after(Path(milliseconds): Path<u64>, site: State<Arc<Site>>) -> String {
    info!(worker = site.worker, milliseconds, "under way");
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    hello(site).await
}

#[server(
    workers = options.workers,
    shutdown_timeout = Duration::from_secs(options.shutdown_timeout),
)]
async fn http(worker: Worker, options: Options) -> io::Result<()> {
    let listener = worker.listen(options.listen).await?;
    let site = site(worker.index()).await;
    let app = Router::new()
        .route("/", get(hello))
        .route("/after/{milliseconds}", get(after))
        .with_state(Arc::clone(&site));

    let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
        yield_().await;
    });
    let deadline = async {
        let stop = worker.stopping().await;
        tokio::time::sleep_until(stop.deadline()).await;
    };
    let served = tokio::select! {
        // Once the last request is answered.
        served = serving.into_future() => served,
        () = deadline => Err(io::Error::other("requests were cut at the deadline")),
    };

    site.exit_as(served).await
}

fn main() -> ExitCode {
    let options = Options::parse();
    let isolation = options.isolation;
    aioxide::logging::init();
    http(options).isolation(isolation).run()
}
