//! The echo servers that are this program: aioxide's, actix-server's and hand-written ones.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::task::Poll;
use std::{env, thread};

use aioxide::{Isolation, Server, Worker, actxmgr};
use anyhow::Result;
use clap::{Args, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// What a server tells on stdout once it can be reached, among other words.
pub(crate) const READY: &str = "ready";

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    AioxideThreads,
    AioxideProcesses,
    BareThreads,
    BareProcesses,
    /// One of the processes of `bare-processes`; the other end of its stdin tells it to stop.
    BareProcess,
    Actix,
}

#[derive(Args)]
pub(crate) struct Serve {
    kind: Kind,
    port: u16,
    workers: usize,
    /// MiB that the supervisor holds, in aioxide's.
    #[arg(long, default_value_t = 0)]
    ballast: usize,
}

impl Serve {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        match self.kind {
            Kind::AioxideThreads => return Ok(self.aioxide(Isolation::Thread, address)),
            Kind::AioxideProcesses => return Ok(self.aioxide(Isolation::Process, address)),
            Kind::BareThreads => bare_threads(address, self.workers)?,
            Kind::BareProcesses => bare_processes(address, self.workers)?,
            Kind::BareProcess => bare_process(address)?,
            Kind::Actix => actix(address, self.workers)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn aioxide(&self, isolation: Isolation, address: SocketAddr) -> ExitCode {
        tracing_subscriber::fmt()
            .with_writer(io::stdout)
            .with_ansi(false)
            .init();
        let run = move |worker: Worker| async move {
            let listener = worker.listen(address).await?;
            let serving = worker.serve(listener, echo);
            let stop = worker.ready().await;
            serving.drain(&stop).await;
            Ok::<_, io::Error>(())
        };
        let server = match self.ballast {
            0 => Server::new(run),
            mib => Server::with_shared_main(move || hold(mib), move |worker, ()| run(worker)),
        };
        server.isolation(isolation).workers(self.workers).run()
    }
}

/// Memory that only the supervisor has.
#[actxmgr]
async fn hold(mib: usize) {
    let held = vec![1_u8; mib << 20];
    yield_(()).await;
    drop(held);
}

pub(crate) async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

fn tell_ready() -> io::Result<()> {
    writeln!(io::stdout(), "{READY}")
}

fn bare_threads(address: SocketAddr, workers: usize) -> io::Result<()> {
    let (bound, all_bound) = mpsc::channel();
    let main = runtime()?;
    let mut terminated = main.block_on(async { signal(SignalKind::terminate()) })?;
    for _ in 0..workers {
        let bound = bound.clone();
        thread::spawn(move || {
            let served = runtime().and_then(|runtime| {
                runtime.block_on(async {
                    let listener = listen(address)?;
                    // The other end is there until all have been received.
                    let _ = bound.send(Ok(()));
                    accept(listener).await
                })
            });
            let _ = served.map_err(|error| bound.send(Err(error)));
        });
    }
    all_bound.iter().take(workers).collect::<io::Result<()>>()?;
    tell_ready()?;
    main.block_on(terminated.recv());
    Ok(())
}

fn bare_processes(address: SocketAddr, workers: usize) -> io::Result<()> {
    let main = runtime()?;
    let mut terminated = main.block_on(async { signal(SignalKind::terminate()) })?;
    let mut children = Vec::new();
    for _ in 0..workers {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(env::current_exe()?)
            .args(["serve", "bare-process", &address.port().to_string(), "1"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        children.push((child, ours));
    }
    for (_, socket) in &mut children {
        socket.read_exact(&mut [0])?;
    }
    tell_ready()?;
    main.block_on(terminated.recv());
    // All at once, each by the end of its socket.
    let children: Vec<Child> = children.into_iter().map(|(child, _)| child).collect();
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

fn bare_process(address: SocketAddr) -> io::Result<()> {
    let control = UnixStream::from(rustix::io::dup(io::stdin())?);
    runtime()?.block_on(async {
        let listener = listen(address)?;
        (&control).write_all(&[1])?;
        control.set_nonblocking(true)?;
        let mut control = tokio::net::UnixStream::from_std(control)?;
        tokio::select! {
            ended = accept(listener) => ended,
            _ = control.read_u8() => Ok(()),
        }
    })
}

fn actix(address: SocketAddr, workers: usize) -> io::Result<()> {
    runtime()?.block_on(async {
        let mut server = actix_server::Server::build()
            .workers(workers)
            .bind("echo", address, || actix_service::fn_service(echo))?
            .run();
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
