//! A server with all that one may have beside its workers: a main context, extras, health checks, a timer that one worker
//! runs. Each part tells which process it belongs to.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Timer, Worker, actxmgr, server};
use aioxide_tests::fixture;
use clap::Parser;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    /// No worker gets ready as long as there is this file.
    #[arg(long)]
    hangs: PathBuf,
    /// Where the door is.
    #[arg(long)]
    monitor: PathBuf,
}

#[actxmgr]
async fn main_context() -> u32 {
    let pid = std::process::id();
    info!("main context of {pid}: entered");
    let (_, exit) = yield_(pid).await;
    info!("main context of {pid}: left: {exit}");
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.write_u32(std::process::id()).await
}

/// Answers on a port of its own.
async fn side(worker: Worker) -> io::Result<()> {
    let listener = worker.listen(fixture::address()).await?;
    info!("side: listens on {}", listener.local_addr()?);
    let serving = worker.serve(listener, answer);
    let stop = worker.stopping().await;
    serving.drain(&stop).await;
    info!("side: torn down: {stop}");
    Ok(())
}

fn idle(worker: Worker) {
    let stop = worker.stopped_blocking();
    info!("idle: torn down: {stop}");
}

#[server(isolation = process, main = main_context, extra = [side, idle])]
async fn entire(worker: Worker, entered_by: u32, options: Options) -> io::Result<()> {
    let (index, pid) = (worker.index(), std::process::id());
    info!(worker = index, "set up pid={pid} entered_by={entered_by}");
    while options.hangs.exists() {
        sleep(Duration::from_millis(5)).await;
    }
    let listener = worker.listen(fixture::address()).await?;
    info!("worker: listens on {}", listener.local_addr()?);
    let serving = worker.serve(listener, answer);
    let sweep = Timer::every(Duration::from_millis(20))
        .single()
        .name("sweep");
    let sweep = sweep.start(move |_| async move {
        info!("tick entered_by={entered_by} worker={index}");
    });
    let stop = yield_().await;
    sweep.stop().await;
    serving.drain(&stop).await;
    info!(worker = index, "torn down: {stop} entered_by={entered_by}");
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    let (server, monitor) = (options.server.clone(), options.monitor.clone());
    server.apply(entire(options)).monitor(monitor).run()
}
