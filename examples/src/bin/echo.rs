//! A TCP echo server: persistent connections, any payload size, one event loop per core or as many as asked.
//!
//! ```text
//! cargo run --release -p aioxide-examples --bin echo -- --listen 127.0.0.1:8888 --workers 4
//! ```

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aioxide::{Exit, Isolation, Worker, actxmgr, server, timer};
use clap::Parser;
use rustix::process::{Resource, Rlimit};
use tokio::net::TcpStream;
use tracing::info;

/// Sends back whatever it is sent, until the client closes its side.
#[derive(Clone, Parser)]
struct Options {
    /// Where to listen: an address or a host name, with a port; port 0 picks a free one.
    #[arg(long, short, default_value = "127.0.0.1:8888")]
    listen: String,
    /// How many workers.
    #[arg(long, short, default_value_t = 4)]
    workers: usize,
    /// What a worker is: `thread` or `process`.
    #[arg(long, default_value_t)]
    isolation: Isolation,
    /// How long open connections are waited for when the server is stopped, in seconds.
    #[arg(long, default_value_t = 25)]
    shutdown_timeout: u64,
    /// Opens a door into the running server for its operator: for `nc -U`, `curl --unix-socket` and the command `aioxide`.
    #[arg(long)]
    monitor: bool,
    /// Where health checks and figures are answered over HTTP, such as `127.0.0.1:9090`.
    #[arg(long)]
    health: Option<String>,
}

/// What one worker knows of its connections.
#[derive(Default)]
struct Connections {
    served: AtomicU64,
}

/// Each worker's own state, from its start to its end.
#[actxmgr]
async fn connections(worker: usize) -> Arc<Connections> {
    info!(worker, "set up");
    let (connections, exit) = yield_(Arc::default()).await;
    let served = connections.served.load(Ordering::Relaxed);
    info!(worker, served, "torn down: {exit}");
}

#[timer(10s)]
async fn heartbeat(worker: usize, connections: Arc<Connections>) {
    let served = connections.served.load(Ordering::Relaxed);
    info!(worker, served, "alive");
}

async fn serve(mut stream: TcpStream, connections: Arc<Connections>) -> io::Result<()> {
    connections.served.fetch_add(1, Ordering::Relaxed);
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    Ok(())
}

#[server(
    workers = options.workers,
    init = allow_many_connections,
    shutdown_timeout = Duration::from_secs(options.shutdown_timeout),
)]
async fn echo(worker: Worker, options: Options) -> io::Result<()> {
    let listener = worker.listen(options.listen).await?;
    let connections = connections(worker.index()).await;
    let heartbeat = heartbeat(worker.index(), Arc::clone(&connections));
    let serving = worker.serve(listener, {
        let connections = Arc::clone(&connections);
        move |stream| serve(stream, Arc::clone(&connections))
    });

    let stop = yield_().await;

    serving.drain(&stop).await;
    heartbeat.stop().await;
    connections.exit_with(Exit::Stopped(stop)).await;
    Ok(())
}

/// A connection is a file descriptor, and shells start programs with a low limit of those.
fn allow_many_connections() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of connections stays limited");
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (isolation, monitor, health) = (options.isolation, options.monitor, options.health.clone());
    aioxide::logging::init();
    let server = echo(options).isolation(isolation).monitor(monitor);
    match health {
        Some(address) => server.health(address).run(),
        None => server.run(),
    }
}
