//! A server for many clients: it answers short requests, holds connections until it is stopped, and ends
//! itself on request.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};

use aioxide::{Isolation, Worker, server};
use aioxide_tests::fixture;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::net::Listener;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    /// Each process of the server waits so long before it listens, in milliseconds.
    #[arg(long, default_value_t = 0)]
    slow_start: u64,
    /// From this generation on, worker 0 doesn't start.
    #[arg(long)]
    broken_from: Option<u64>,
    /// A listener of its own kind, to which nothing can be lent.
    #[arg(long)]
    own_listener: bool,
    /// On which addresses it listens.
    #[arg(long, default_values_t = [fixture::address()], value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// On the first of them alone.
    #[arg(long)]
    first: bool,
}

/// A byte says what is wanted:
/// - `i`: the worker's index comes back, and the next byte counts;
/// - `e`: the byte comes back, and the connection is closed;
/// - `h`: the byte comes back, `b` follows when the worker is stopped, and the connection is closed;
/// - `f`: the byte comes back, and the event loop is blocked until one more comes: then the worker dies.
async fn answer(mut stream: TcpStream, worker: Worker, crash: Rc<Notify>) -> io::Result<()> {
    let wanted = loop {
        match stream.read_u8().await? {
            b'i' => stream.write_u8(worker.index() as u8).await?,
            wanted => break wanted,
        }
    };
    stream.write_u8(wanted).await?;
    match wanted {
        b'h' => {
            worker.stopping().await;
            stream.write_u8(b'b').await?;
        }
        b'f' => {
            let mut stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            stream.read_exact(&mut [0])?;
            crash.notify_one();
        }
        _ => {}
    }
    Ok(())
}

/// A TCP listener, but not tokio's.
struct Own(TcpListener);

impl Listener for Own {
    type Io = TcpStream;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.0.poll_accept(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[server]
async fn traffic(worker: Worker, options: Options) -> io::Result<()> {
    let (index, generation, pid) = (worker.index(), worker.generation(), std::process::id());
    info!(worker = index, generation, pid, "set up");
    if index == 0 && options.broken_from.is_some_and(|from| generation >= from) {
        return Err(io::Error::other("broken"));
    }
    tokio::time::sleep(std::time::Duration::from_millis(options.slow_start)).await;
    let listener = match options.first {
        true => worker.listen_first(&options.listen[..]).await?,
        false => worker.listen(&options.listen[..]).await?,
    };
    let crash = Rc::new(Notify::new());
    let handler = {
        let (worker, crash) = (worker.clone(), Rc::clone(&crash));
        move |stream| answer(stream, worker.clone(), Rc::clone(&crash))
    };
    let serving = match options.own_listener {
        true => worker.serve(Own(listener), handler),
        false => worker.serve(listener, handler),
    };
    let stop = tokio::select! {
        biased;
        () = crash.notified() => {
            info!(open = serving.open(), "crashes");
            match worker.isolation() {
                Isolation::Thread => panic!("the fixture's crash"),
                Isolation::Process => std::process::abort(),
            }
        }
        stop = yield_() => stop,
    };
    serving.drain(&stop).await;
    info!(worker = index, generation, "torn down: {stop}");
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    let server = options.server.clone();
    server.apply(traffic(options)).run()
}
