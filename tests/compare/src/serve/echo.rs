//! Servers that echo bytes: aioxide's, actix-server's and hand-written ones.

use std::env;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::task::Poll;

use aioxide::{Server, Worker, actxmgr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use super::bare::{listen, runtime, tell_ready};

/// With so many MiB in its supervisor.
pub(super) fn aioxide(address: SocketAddr, ballast: usize) -> Server {
    let run = move |worker: Worker| async move {
        let listener = worker.listen(address).await?;
        let serving = worker.serve(listener, echo);
        let stop = worker.ready().await;
        serving.drain(&stop).await;
        Ok::<_, io::Error>(())
    };
    match ballast {
        0 => Server::new(run),
        mib => Server::with_shared_main(move || hold(mib), move |worker, ()| run(worker)),
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

pub(super) async fn accept(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

pub(super) fn bare_processes(address: SocketAddr, workers: usize) -> io::Result<()> {
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

pub(super) fn bare_process(address: SocketAddr) -> io::Result<()> {
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

pub(super) fn actix(address: SocketAddr, workers: usize) -> io::Result<()> {
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
