//! Servers of HTTP. All answer `GET /?QUERY` with the query; `GET /block/MILLISECONDS` blocks the thread that handles it
//! for so long.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpServer, rt::System, web};
use aioxide::{Server, Worker};
use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::bare::{listen, tell_ready};

const BLOCK: &str = "/block/{milliseconds}";

fn block(milliseconds: u64) -> &'static str {
    thread::sleep(Duration::from_millis(milliseconds));
    "blocked"
}

fn router() -> Router {
    let echo = get(async |RawQuery(query): RawQuery| query.unwrap_or_default());
    let block = get(async |Path(milliseconds): Path<u64>| block(milliseconds));
    Router::new().route("/", echo).route(BLOCK, block)
}

pub(super) fn aioxide(address: SocketAddr) -> Server {
    Server::new(move |worker: Worker| async move {
        let listener = worker.listen(address).await?;
        let serving = worker.serve_http(listener, router());
        let stop = worker.ready().await;
        serving.drain(&stop).await;
        io::Result::Ok(())
    })
}

pub(super) fn axum_in_aioxide(address: SocketAddr) -> Server {
    Server::new(move |worker: Worker| async move {
        let listener = worker.listen(address).await?;
        let stop = async move { _ = worker.ready().await };
        let serving = axum::serve(listener, router());
        serving.with_graceful_shutdown(stop).await
    })
}

/// hyper alone.
pub(super) async fn accept(listener: TcpListener) -> io::Result<()> {
    let router = router();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        // What becomes of it is its client's concern.
        tokio::spawn(async move { drop(connection.await) });
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

pub(super) fn actix_web(address: SocketAddr, workers: usize) -> io::Result<()> {
    System::new().block_on(async {
        let app = || {
            let echo = async |request: HttpRequest| request.query_string().to_owned();
            let block = async |milliseconds: web::Path<u64>| block(*milliseconds);
            App::new()
                .route("/", web::get().to(echo))
                .route(BLOCK, web::get().to(block))
        };
        let mut server = HttpServer::new(app).workers(workers).bind(address)?.run();
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
