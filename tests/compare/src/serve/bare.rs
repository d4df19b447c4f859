//! What is written by hand where there is no aioxide: a runtime for each worker, and a socket of its own on the same address.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

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

/// How long one lives that crashes again and again.
pub(super) const LIFE: Duration = Duration::from_millis(300);
/// How long it is gone then, at first and at the longest, as with aioxide.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Until SIGTERM. In a crash loop the first of the workers lives for a moment, again and again, and its socket with it.
pub(super) fn on_threads<F>(
    address: SocketAddr,
    workers: usize,
    crash_loop: bool,
    accept: impl Fn(TcpListener) -> F + Clone + Send + 'static,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let (bound, all_bound) = mpsc::channel();
    let main = runtime()?;
    let mut terminated = main.block_on(async { signal(SignalKind::terminate()) })?;
    for worker in 0..workers {
        let (bound, accept) = (bound.clone(), accept.clone());
        let life = (crash_loop && worker == 0).then_some(LIFE);
        thread::spawn(move || {
            let mut backoff = FIRST_BACKOFF;
            loop {
                let served = runtime().and_then(|runtime| {
                    runtime.block_on(async {
                        let listener = listen(address)?;
                        // The other end is there until all have been received.
                        let _ = bound.send(Ok(()));
                        let accepted = accept(listener);
                        match life {
                            Some(life) => timeout(life, accepted).await.unwrap_or(Ok(())),
                            None => accepted.await,
                        }
                    })
                });
                if let Err(error) = served {
                    let _ = bound.send(Err(error));
                    return;
                }
                thread::sleep(backoff);
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
        });
    }
    all_bound.iter().take(workers).collect::<io::Result<()>>()?;
    tell_ready()?;
    main.block_on(terminated.recv());
    Ok(())
}
