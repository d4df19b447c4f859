//! A JSON API on axum: each request has a deadline, connections are kept alive, and a stop lets what is under way finish.
//!
//! ```text
//! cargo run --release -p aioxide-examples --features http --bin http -- --listen 127.0.0.1:8080 --workers 4
//! ```
//!
//! `curl 127.0.0.1:8080/` is answered at once, `curl 127.0.0.1:8080/after/5000` after five seconds: press Ctrl-C
//! meanwhile.
//!
//! A rolling restart, `kill -HUP`, loses no request, whatever its connection is doing at that moment.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aioxide::{Isolation, Worker, actxmgr, server};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use serde::Serialize;
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
    /// How long a request may take, in seconds.
    #[arg(long, default_value_t = 10)]
    request_timeout: u64,
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

#[derive(Serialize)]
struct Hello {
    worker: usize,
    /// How many requests it has answered.
    answered: u64,
}

async fn hello(State(site): State<Arc<Site>>) -> Json<Hello> {
    Json(Hello {
        worker: site.worker,
        answered: site.answered.fetch_add(1, Ordering::Relaxed) + 1,
    })
}

/// Stands for a request that takes its time.
async fn after(Path(milliseconds): Path<u64>, site: State<Arc<Site>>) -> Json<Hello> {
    info!(worker = site.worker, milliseconds, "under way");
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    hello(site).await
}

/// Drops a request that takes too long.
async fn deadline(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

#[server(
    workers = options.workers,
    shutdown_timeout = Duration::from_secs(options.shutdown_timeout),
)]
async fn http(worker: Worker, options: Options) -> io::Result<()> {
    let listener = worker.listen(options.listen).await?;
    let site = site(worker.index()).await;
    let limit = Duration::from_secs(options.request_timeout);
    let app = Router::new()
        .route("/", get(hello))
        .route("/after/{milliseconds}", get(after))
        .layer(middleware::from_fn_with_state(limit, deadline))
        .with_state(Arc::clone(&site));
    let serving = worker.serve_http(listener, app);

    let stop = yield_().await;

    serving.drain(&stop).await;
    site.exit().await;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let isolation = options.isolation;
    aioxide::logging::init();
    http(options).isolation(isolation).run()
}
