//! A server on every kind of socket that a worker may ask for. It answers with its index.

use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use aioxide::{Worker, server};
use aioxide_tests::fixture;
use clap::Parser;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    /// A path, or `named:` and the name of one that systemd passes.
    #[arg(long)]
    unix: PathBuf,
    /// An address, or `named:` and the name of one that systemd passes.
    #[arg(long, default_value_t = fixture::address().to_string())]
    udp: String,
    /// The Unix socket's permissions.
    #[arg(long, value_parser = |text: &str| u32::from_str_radix(text, 8))]
    mode: Option<u32>,
    /// It starts a program that tells how many sockets it has got.
    #[arg(long)]
    lists: bool,
    /// Where the door is.
    #[arg(long)]
    monitor: Option<PathBuf>,
}

/// How many sockets a program has that is started now.
async fn sockets_of_a_child() -> io::Result<usize> {
    let listing = tokio::process::Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .await?;
    let listing = String::from_utf8_lossy(&listing.stdout);
    Ok(listing.matches("socket:").count())
}

async fn answer(mut stream: impl AsyncWrite + Unpin, index: u8) -> io::Result<()> {
    stream.write_u8(index).await
}

#[server]
async fn sockets(worker: Worker, options: Options) -> io::Result<()> {
    let (index, number) = (worker.index(), worker.index() as u8);
    let first = worker.listen(fixture::address()).await?;
    let second = worker.listen(fixture::address()).await?;
    let named = options
        .unix
        .to_str()
        .and_then(|path| path.strip_prefix("named:"));
    let unix = match (options.mode, named) {
        (_, Some(name)) => worker.listen_unix_named(name).await?,
        (Some(mode), None) => worker.listen_unix_with_mode(&options.unix, mode).await?,
        (None, None) => worker.listen_unix(&options.unix).await?,
    };
    let udp = match options.udp.strip_prefix("named:") {
        Some(name) => worker.bind_udp_named(name).await?,
        None => worker.bind_udp(&options.udp).await?,
    };
    info!(
        worker = index,
        first = %first.local_addr()?,
        second = %second.local_addr()?,
        udp = %udp.local_addr()?,
        "listens"
    );
    if options.lists {
        let sockets = sockets_of_a_child().await?;
        info!(worker = index, sockets, "started a program");
    }
    let address = first.local_addr()?;
    let first = worker.serve(first, move |stream| answer(stream, number));
    let second = worker.serve(second, move |stream| answer(stream, number));
    let unix = worker.serve(unix, move |stream| answer(stream, number));
    let datagrams = tokio::task::spawn_local(async move {
        loop {
            let (_, from) = udp.recv_from(&mut [0; 16]).await?;
            udp.send_to(&[number], from).await?;
        }
        #[allow(unreachable_code)]
        Ok::<(), io::Error>(())
    });

    let mut reloads = worker.reloads();
    let mut ready = std::pin::pin!(yield_());
    let mut given_up = Some((first, unix));
    let stop = loop {
        tokio::select! {
            stop = &mut ready => break stop,
            // As they were asked for or are bound.
            Some(()) = reloads.recv() => {
                drop(given_up.take());
                worker.unlisten(address).await?;
                worker.unlisten(options.unix.display()).await?;
                let again = worker.unlisten(address).await.expect_err("it is given up");
                info!(worker = index, "gave up; then: {again}");
            }
        }
    };

    datagrams.abort();
    second.drain(&stop).await;
    if let Some((first, unix)) = given_up {
        tokio::join!(first.drain(&stop), unix.drain(&stop));
    }
    info!(worker = index, "torn down: {stop}");
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    let (server, monitor) = (options.server.clone(), options.monitor.clone());
    server.apply(sockets(options)).monitor(monitor).run()
}
