//! What is written by hand where there is no aioxide: a runtime for each worker, and a socket of its own on the same address.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// What a server tells on stdout once it can be reached, among other words.
pub(crate) const READY: &str = "ready";

pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

pub(super) fn tell_ready() -> io::Result<()> {
    writeln!(io::stdout(), "{READY}")
}

/// Until SIGTERM.
pub(super) fn on_threads<F>(
    address: SocketAddr,
    workers: usize,
    accept: fn(TcpListener) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
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
