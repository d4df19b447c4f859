//! An HTTP server with a request for each thing that may be under way when a worker stops.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use aioxide::http::{Http, Peer, Stopping};
use aioxide::{Serving, Stop, Worker, server};
use aioxide_tests::fixture;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use clap::Parser;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    #[arg(long, default_value_t = fixture::address())]
    listen: SocketAddr,
    /// The path of a Unix socket to listen on too.
    #[arg(long)]
    unix: Option<PathBuf>,
    /// In milliseconds, as all times.
    #[arg(long)]
    idle: Option<u64>,
    #[arg(long, default_value_t = 30_000)]
    head_timeout: u64,
    /// Serve with axum's own loop, to compare.
    #[arg(long)]
    axum: bool,
    /// While there is such a file, workers that are started again fail.
    #[arg(long)]
    fail_while: Option<PathBuf>,
    /// Serve each connection in a handler of `Worker::serve`.
    #[arg(long)]
    by_hand: bool,
}

/// What the requests of one worker share.
struct Site {
    index: usize,
    under_way: AtomicUsize,
    /// The most that were under way at once.
    most: AtomicUsize,
    dies: Notify,
}

impl Site {
    fn new(index: usize) -> Arc<Site> {
        Arc::new(Site {
            index,
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            dies: Notify::new(),
        })
    }

    fn enter(self: Arc<Site>) -> UnderWay {
        let under_way = self.under_way.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(under_way, Relaxed);
        UnderWay(self)
    }
}

struct UnderWay(Arc<Site>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

async fn after(State(site): State<Arc<Site>>, Path(milliseconds): Path<u64>) -> &'static str {
    let _under_way = site.enter();
    info!("under way");
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    "after"
}

/// The head at once and the body later.
async fn later(Path(milliseconds): Path<u64>) -> Response {
    let body = futures_util::stream::once(async move {
        info!("under way");
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        Ok::<_, io::Error>(Bytes::from_static(b"later"))
    });
    ([(header::CONTENT_LENGTH, "5")], Body::from_stream(body)).into_response()
}

async fn peer(
    Extension(peer): Extension<Peer>,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
) -> String {
    let address = address.map(|Extension(ConnectInfo(address))| address.to_string());
    format!("{peer} {}", address.unwrap_or_default())
}

/// Echoes what comes until the worker stops or a `q` comes, and says goodbye.
async fn upgrade(Extension(stopping): Extension<Stopping>, mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = upgraded.await else { return };
        let mut io = TokioIo::new(io);
        let echo = async {
            loop {
                match io.read_u8().await {
                    Ok(b'q') | Err(_) => break,
                    Ok(byte) => io.write_u8(byte).await?,
                }
            }
            io::Result::Ok(())
        };
        tokio::select! {
            echoed = echo => info!("echoed: {echoed:?}"),
            stop = stopping => {
                info!("upgraded, and told: {stop}");
                // It takes its leave when the client has.
                let left = match io.write_u8(b'b').await {
                    Ok(()) => io.read_u8().await,
                    Err(error) => Err(error),
                };
                info!("upgraded, and left: {left:?}");
            }
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Keeps the event loop from turning.
async fn block(Path(milliseconds): Path<u64>) -> &'static str {
    info!("blocks");
    std::thread::sleep(Duration::from_millis(milliseconds));
    info!("goes on");
    "blocked"
}

async fn index(State(site): State<Arc<Site>>) -> String {
    site.index.to_string()
}

/// Has the worker fail.
async fn die(State(site): State<Arc<Site>>) {
    site.dies.notify_one();
}

fn app(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/worker", get(index))
        .route("/after/{milliseconds}", get(after))
        .route("/later/{milliseconds}", get(later))
        .route("/block/{milliseconds}", get(block))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/die", get(die))
        .route("/peer", get(peer))
        .route("/upgrade", get(upgrade))
        .route(
            "/panic",
            get(async || -> String { panic!("the fixture's") }),
        )
        .with_state(site)
}

#[server]
async fn web(worker: Worker, options: Options) -> io::Result<()> {
    let listener = worker.listen(options.listen).await?;
    let fails = options
        .fail_while
        .as_ref()
        .is_some_and(|file| file.exists());
    if fails && worker.generation() > 0 {
        return Err(io::Error::other("the fixture's: it fails at its start"));
    }
    let site = Site::new(worker.index());
    let app = app(Arc::clone(&site));
    let stopping = yield_();
    if options.axum {
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, app).with_graceful_shutdown(async {
            stopping.await;
        });
        return serving.await;
    }
    let mut http = Http::new(app)
        .head_timeout(Duration::from_millis(options.head_timeout))
        .on_request(|request| tracing::trace!(uri = %request.uri(), "request"));
    if let Some(idle) = options.idle {
        http = http.idle(Duration::from_millis(idle));
    }
    let mut all = Vec::new();
    if let Some(path) = options.unix {
        let listener = worker.listen_unix(path).await?;
        all.push(worker.serve_http(listener, http.clone()));
    }
    all.push(match options.by_hand {
        false => worker.serve_http(listener, http),
        true => worker.serve(listener, {
            let worker = worker.clone();
            move |stream| http.connection(stream, &worker)
        }),
    });
    let stop = tokio::select! {
        stop = stopping => stop,
        () = site.dies.notified() => return Err(io::Error::other("the fixture's: it was to die")),
    };
    info!("asked to stop: {stop}");
    for serving in all {
        drain(serving, &stop).await;
    }
    info!(most = site.most.load(Relaxed), "left");
    Ok(())
}

async fn drain(serving: Serving, stop: &Stop) {
    let (accepted, failed) = (serving.accepted(), serving.failed());
    let cut = serving.drain(stop).await;
    info!(accepted, failed, cut, "drained: {stop}");
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    let server = options.server.clone();
    server.apply(web(options)).run()
}
