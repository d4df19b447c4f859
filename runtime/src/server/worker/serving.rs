//! The accept loop of a worker: one task per connection, drained when the worker stops.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::net::Listener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::admission::{Admission, Admitted};
use super::failures::{Failed, Failures};
use super::handing::Handing;
use super::listeners::Listeners;
use super::requests::Requests;
use super::shared::Shared;
use crate::server::job::Outcome;
use crate::server::stop::sleep_until;
use crate::server::{Stop, Worker, report};
use crate::teardown::{InPlace, Place};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The connections of a worker, from [`Worker::serve`]: accepted in the background, each handled by a
/// task of its own on the worker's event loop.
///
/// Dropping it stops accepting; handlers that still run go on until the worker ends.
#[must_use = "dropping it stops accepting; `drain` it when the worker is asked to stop"]
pub struct Serving {
    worker: Arc<Shared>,
    accepting: DropGuard,
    cut: CancellationToken,
    accept_loop: JoinHandle<()>,
    counts: Rc<Counts>,
}

#[derive(Default)]
struct Counts {
    accepted: Cell<u64>,
    open: Cell<usize>,
    failed: Cell<u64>,
    failures: RefCell<Failures>,
    requests: Rc<Requests>,
}

impl Counts {
    fn opened(&self) {
        self.accepted.set(self.accepted.get() + 1);
        self.open.set(self.open.get() + 1);
    }

    fn closed(&self, failed: bool) {
        self.open.set(self.open.get() - 1);
        self.failed.set(self.failed.get() + u64::from(failed));
    }

    /// When failures of handlers are told next.
    async fn failures_due(&self) {
        let due = self.failures.borrow().due(Instant::now());
        sleep_until(due).await;
    }

    fn tell_failures(&self, worker: &Shared) {
        tell(worker, self.failures.borrow_mut().tell(Instant::now()));
    }
}

impl Serving {
    /// How many connections have been accepted.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.get()
    }

    /// How many connections are being handled now.
    pub fn open(&self) -> usize {
        self.counts.open.get()
    }

    /// How many handlers have ended in an error or a panic. Errors are logged at WARN, in one line a second at most,
    /// which has their number and the text of the last one; panics at ERROR. A handler that takes a client that goes
    /// away for nothing worth a line returns `Ok` then.
    ///
    /// Where HTTP is served, by [`serve_http`](Worker::serve_http) or in a handler, connections that were closed because of
    /// what the client sent, or because it didn't send it in time, are among them. These are logged at DEBUG.
    pub fn failed(&self) -> u64 {
        self.counts.failed.get() + self.counts.requests.refused()
    }

    /// Stops accepting and waits for the handlers of the open connections, until the stop's
    /// [deadline](Stop::deadline) at the longest. Handlers that still run then are cut: dropped, logged, and
    /// counted in what comes back. If the whole server is stopping its exit code is 3, because its time ran out, unless
    /// something failed.
    ///
    /// # Cancellation
    ///
    /// Dropping this future half-way stops accepting and leaves the handlers to run until the worker
    /// ends.
    pub async fn drain(self, stop: &Stop) -> usize {
        drop(self.accepting);
        let mut accept_loop = self.accept_loop;
        let ended = tokio::time::timeout_at(stop.deadline(), &mut accept_loop).await;
        if let Ok(joined) = ended {
            resume(joined);
            return 0;
        }
        let cut = self.counts.open.get();
        self.worker.overran.store(true, Ordering::Relaxed);
        report::log!(
            warn,
            worker = self.worker.identity.index,
            role = self.worker.identity.role(),
            connections = cut,
            requests = self.counts.requests.in_flight(),
            "connections cut at the deadline of {stop}"
        );
        self.cut.cancel();
        resume(accept_loop.await);
        cut
    }
}

/// Passes on a panic of the accept loop, which would be one of ours or of the listener's.
fn resume(joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined {
        if error.is_panic() {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("accepted", &self.accepted())
            .field("open", &self.open())
            .field("failed", &self.failed())
            .finish()
    }
}

impl Worker {
    /// Accepts connections from `listener` in the background and runs `handler` for each, in a task of
    /// its own on this worker's event loop: neither handler nor future need be `Send`.
    ///
    /// ```no_run
    /// use std::io;
    /// use aioxide::{Worker, server};
    /// use tokio::io::AsyncWriteExt;
    ///
    /// #[server(workers = 2)]
    /// async fn main(worker: Worker) -> io::Result<()> {
    ///     let listener = worker.listen("127.0.0.1:8888").await?;
    ///     // The closure is called for every connection: what its futures use it clones for each of them.
    ///     let serving = worker.serve(listener, {
    ///         let worker = worker.clone();
    ///         move |mut stream| {
    ///             let worker = worker.clone();
    ///             async move {
    ///                 stream.write_all(b"until the stop: ").await?;
    ///                 let stop = worker.stopping().await;
    ///                 stream.write_all(stop.to_string().as_bytes()).await
    ///             }
    ///         }
    ///     });
    ///     let stop = yield_().await;
    ///     serving.drain(&stop).await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A handler returns `()` or a `Result<(), E>`. When the process is out of file descriptors or
    /// memory the loop pauses, 5 ms doubling to 1 s, and goes on.
    ///
    /// With [`max_connections`](crate::Server::max_connections) it stops accepting while so many are open.
    ///
    /// What handlers enter is inside the place in which this is called: see [`teardown`](crate::teardown#order).
    ///
    /// Takes a [`TcpListener`](tokio::net::TcpListener), a [`UnixListener`](tokio::net::UnixListener), or
    /// whatever else is a [`tokio_util::net::Listener`]. From tokio's `TcpListener` it accepts for other workers too, while
    /// those can't, and from every address of the name that was given to [`listen`](Worker::listen).
    ///
    /// # Panics
    ///
    /// Outside a worker's own code, where there is no event loop to spawn on.
    pub fn serve<L, H, F>(&self, listener: L, handler: H) -> Serving
    where
        L: Listener + 'static,
        L::Io: 'static,
        L::Addr: 'static,
        H: Fn(L::Io) -> F + 'static,
        F: Future + 'static,
        F::Output: Outcome,
    {
        self.serve_each(listener, move |stream, _| handler(stream))
    }

    /// As [`serve`](Worker::serve), with the client's address for the handler.
    pub(crate) fn serve_each<L, H, F>(&self, listener: L, handler: H) -> Serving
    where
        L: Listener + 'static,
        L::Io: 'static,
        L::Addr: 'static,
        H: Fn(L::Io, L::Addr) -> F + 'static,
        F: Future + 'static,
        F::Output: Outcome,
    {
        let cut = self.shared.cut.child_token();
        let accepting = cut.child_token();
        let counts = Rc::new(Counts::default());
        let accept_loop = self.shared.serving.spawn_local(accept_loop(
            Arc::clone(&self.shared),
            Handing::new(&self.shared, &listener),
            Listeners::new(&self.shared, listener),
            (handler, Place::current()),
            accepting.clone(),
            cut.clone(),
            Rc::clone(&counts),
        ));
        Serving {
            worker: Arc::clone(&self.shared),
            accepting: accepting.drop_guard(),
            cut,
            accept_loop,
            counts,
        }
    }
}

async fn accept_loop<L, H, F>(
    worker: Arc<Shared>,
    mut handing: Option<Handing<L>>,
    mut listeners: Listeners<L>,
    (handler, place): (H, Place),
    accepting: CancellationToken,
    cut: CancellationToken,
    counts: Rc<Counts>,
) where
    L: Listener + 'static,
    L::Io: 'static,
    L::Addr: 'static,
    H: Fn(L::Io, L::Addr) -> F + 'static,
    F: Future + 'static,
    F::Output: Outcome,
{
    #[cfg(feature = "monitor")]
    let name = listeners.name();
    let handler = Rc::new(handler);
    let mut handlers = JoinSet::new();
    let handle = |handlers: &mut JoinSet<_>, stream, address, permit| {
        counts.opened();
        worker.told.accepted.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "monitor")]
        let handled = worker
            .watched
            .as_ref()
            .map(|watched| watched.handle(&address, &name, &cut));
        let handler = Rc::clone(&handler);
        // Called inside its task, where its panic is one connection's. Boxed where it is made:
        // on its way into a task a future is moved a dozen times, its buffers with it.
        let inside = place.inner();
        handlers.spawn_local(Box::pin(Rc::clone(&counts.requests).of(async move {
            let _permit = permit;
            let handling = async { handler(stream, address).await.outcome() };
            let outcome = InPlace::new(inside, handling).await;
            #[cfg(feature = "monitor")]
            handled.inspect(|handled| handled.end(&outcome));
            outcome
        })));
    };
    let mut pause = FIRST_PAUSE;
    let mut admission = Admission::new(worker.max_connections.clone());
    let stopped = accepting.cancelled();
    tokio::pin!(stopped);
    loop {
        let is_open = admission.is_open();
        if let Some(handing) = &mut handing {
            handing.full(!is_open);
        }
        tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(joined) = handlers.join_next() => {
                close(&worker, &counts, joined);
                handing.iter().for_each(Handing::closed);
            }
            () = counts.failures_due() => counts.tell_failures(&worker),
            admitted = admission.changed() => if let Admitted::Full(full) = admitted {
                listeners.full(full);
            },
            handed = handed(&handing), if is_open => match handed {
                Ok((stream, address)) => handle(&mut handlers, stream, address, admission.take()),
                Err(error) => report::log!(warn, worker = worker.identity.index, role = worker.identity.role(), %error, "a connection from another worker is lost"),
            },
            accepted = listeners.accept(), if is_open => match accepted.and_then(|(stream, address)| match &handing {
                Some(handing) => handing.accepted(stream, address),
                None => Ok(Some((stream, address))),
            }) {
                Ok(accepted) => {
                    pause = FIRST_PAUSE;
                    if let Some((stream, address)) = accepted {
                        handle(&mut handlers, stream, address, admission.take());
                    }
                }
                Err(error) if concerns_one_connection(&error) => {
                    report::log!(debug, worker = worker.identity.index, role = worker.identity.role(), %error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    report::log!(warn, worker = worker.identity.index, role = worker.identity.role(), %error, ?pause, "cannot accept connections; pausing");
                    tokio::select! {
                        () = &mut stopped => break,
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                    }
                }
            },
        }
    }
    drop(listeners);
    for handed in handing.into_iter().flat_map(Handing::leave) {
        // Those beyond the limit are closed, as those are that wait in the kernel.
        if let (Ok((stream, address)), true) = (handed, admission.is_open()) {
            handle(&mut handlers, stream, address, admission.take());
        }
    }
    loop {
        tokio::select! {
            biased;
            joined = handlers.join_next() => match joined {
                Some(joined) => close(&worker, &counts, joined),
                None => break,
            },
            // What the handlers hold is dropped here, while there is still time for its teardown.
            () = cut.cancelled() => {
                handlers.shutdown().await;
                break;
            }
            () = counts.failures_due() => counts.tell_failures(&worker),
        }
    }
    tell(&worker, counts.failures.borrow_mut().take());
}

/// What another accept loop has accepted for this one.
async fn handed<L>(handing: &Option<Handing<L>>) -> io::Result<(L::Io, L::Addr)>
where
    L: Listener + 'static,
    L::Io: 'static,
    L::Addr: 'static,
{
    match handing {
        Some(handing) => handing.handed().await,
        None => std::future::pending().await,
    }
}

fn close(
    worker: &Shared,
    counts: &Counts,
    joined: Result<Result<(), String>, tokio::task::JoinError>,
) {
    let failed = match joined {
        Ok(Ok(())) => false,
        Ok(Err(error)) => {
            counts.failures.borrow_mut().failed(error);
            counts.tell_failures(worker);
            true
        }
        Err(error) => {
            report::log!(error, worker = worker.identity.index, role = worker.identity.role(), %error, "a connection's handler panicked");
            true
        }
    };
    counts.closed(failed);
}

fn tell(worker: &Shared, failed: Option<Failed>) {
    if let Some(Failed { failed, error }) = failed {
        report::log!(
            warn,
            worker = worker.identity.index,
            role = worker.identity.role(),
            failed,
            error,
            "a connection's handler failed"
        );
    }
}

/// Whether an error of `accept` is about the connection that was to be accepted, not the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::time::Instant;

    use crate::server::StopReason;

    #[test]
    fn a_handler_that_panics_when_called_takes_only_its_connection_along() {
        let worker = Worker {
            shared: Shared::alone(Arc::default()),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let first = Cell::new(true);
            let serving = worker.serve(listener, move |stream: TcpStream| {
                assert!(!first.take(), "the first one panics");
                async move { drop(stream) }
            });
            for _ in 0..2 {
                let mut client = TcpStream::connect(address).await.unwrap();
                assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            }
            let counts = Rc::clone(&serving.counts);
            let soon = Instant::now() + Duration::from_secs(30);
            let stop = Stop::new(StopReason::Completed, soon);
            assert_eq!(serving.drain(&stop).await, 0);
            assert_eq!((counts.accepted.get(), counts.failed.get()), (2, 1));
        });
    }
}
