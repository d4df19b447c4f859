//! Servers of HTTP. All answer `GET /?QUERY` with the query; `GET /block/MILLISECONDS` blocks the thread that handles it
//! for so long; `GET /worker` tells which of the workers handles it, in a line.

use std::io;
use std::net::SocketAddr;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use actix_rt::{Arbiter, System};
use actix_web::{App, HttpRequest, HttpServer, web};
use aioxide::{Isolation, Server, Worker};
use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Signal, getpid, kill_process};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::bare::{LIFE, listen, tell_ready};

const BLOCK: &str = "/block/{milliseconds}";
const WORKER: &str = "/worker";

fn block(milliseconds: u64) -> &'static str {
    thread::sleep(Duration::from_millis(milliseconds));
    "blocked"
}

fn worker() -> String {
    format!("{} {:?}\n", process::id(), thread::current().id())
}

fn router() -> Router {
    let echo = get(async |RawQuery(query): RawQuery| query.unwrap_or_default());
    let block = get(async |Path(milliseconds): Path<u64>| block(milliseconds));
    let worker = get(async || worker());
    Router::new()
        .route("/", echo)
        .route(BLOCK, block)
        .route(WORKER, worker)
}

pub(super) fn aioxide(address: SocketAddr, crash_loop: bool) -> Server {
    Server::new(move |worker: Worker| async move {
        let listener = worker.listen(address).await?;
        let serving = worker.serve_http(listener, router());
        let stop = tokio::select! {
            biased;
            stop = worker.ready() => stop,
            error = crash(&worker), if crash_loop && worker.index() == 0 => return Err(error),
        };
        serving.drain(&stop).await;
        io::Result::Ok(())
    })
}

/// Ends a process as it can't help, and a thread by the error that is to be its worker's.
async fn crash(worker: &Worker) -> io::Error {
    sleep(LIFE).await;
    match worker.isolation() {
        Isolation::Thread => io::Error::other("it crashes"),
        Isolation::Process => match kill_process(getpid(), Signal::KILL) {
            Ok(()) => io::Error::other("it has been killed"),
            Err(error) => error.into(),
        },
    }
}

pub(super) fn axum_in_aioxide(address: SocketAddr) -> Server {
    Server::new(move |worker: Worker| async move {
        let listener = worker.listen(address).await?;
        let stop = async move { _ = worker.ready().await };
        let serving = axum::serve(listener, router());
        serving.with_graceful_shutdown(stop).await
    })
}

/// hyper alone, with so many connections at most.
pub(super) async fn accept(listener: TcpListener, max: Option<usize>) -> io::Result<()> {
    let router = router();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    let places = max.map(|max| Arc::new(Semaphore::new(max)));
    loop {
        let place = match &places {
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            let _place = place;
            // What becomes of it is its client's concern.
            drop(connection.await)
        });
    }
}

/// On tokio's runtime of so many threads.
pub(super) fn axum(address: SocketAddr, workers: usize) -> io::Result<()> {
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(workers).enable_all().build()?;
    // A task of the runtime, as connections are.
    let serving = runtime.spawn(async move {
        let mut terminated = signal(SignalKind::terminate())?;
        let listener = listen(address)?;
        tell_ready()?;
        let serving = axum::serve(listener, router());
        let stop = async move { _ = terminated.recv().await };
        serving.with_graceful_shutdown(stop).await
    });
    runtime.block_on(serving)?
}

pub(super) fn actix_web(
    address: SocketAddr,
    workers: usize,
    max: Option<usize>,
    crash_loop: bool,
) -> io::Result<()> {
    let started = Arc::new(AtomicUsize::new(0));
    System::new().block_on(async {
        let app = move || {
            let echo = async |request: HttpRequest| request.query_string().to_owned();
            let block = async |milliseconds: web::Path<u64>| block(*milliseconds);
            let worker = async || worker();
            // The first to start, and who takes its place.
            let is_first = |before| before == 0 || before >= workers;
            if crash_loop && is_first(started.fetch_add(1, Relaxed)) {
                actix_rt::spawn(async {
                    sleep(LIFE).await;
                    Arbiter::current().stop();
                });
            }
            App::new()
                .route("/", web::get().to(echo))
                .route(BLOCK, web::get().to(block))
                .route(WORKER, web::get().to(worker))
        };
        let mut server = HttpServer::new(app).workers(workers);
        if let Some(max) = max {
            server = server.max_connections(max);
        }
        let mut server = server.bind(address)?.run();
        // Its workers and its signal handlers are there once it has been polled.
        match futures_util::poll!(&mut server) {
            Poll::Ready(ended) => ended,
            Poll::Pending => {
                tell_ready()?;
                server.await
            }
        }
    })
}
