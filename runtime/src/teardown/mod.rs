//! Teardown that outlives its caller.
//!
//! A guard that is dropped cannot await: its teardown is *detached*, that is, it goes on as a task of the
//! runtime that the context was entered on, inside the tracing span current at enter. Nobody is there to
//! take its error, so what goes wrong is logged with `tracing::error!`, passed to the hook installed with
//! [`on_error`], and counted in [`stats`]. [`drain`] waits for detached teardowns before a runtime ends.
//!
//! **Order.** A detached teardown waits for the pending ones of contexts that were *entered after* its own
//! and dropped before it by the same task (outside tasks: the same thread): inner before outer. What it
//! waits for is settled when it is dropped. Hence waits form no circle, and a stuck teardown delays only
//! contexts entered before it. Members of one [`group`](crate::group) never wait for each other. Fields of a
//! struct and elements of a `Vec` drop first-entered first and are therefore not ordered;
//! [`ExitStack`](crate::ExitStack) is for that.

mod detached;
mod ledger;

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{self, Handle};

use crate::panic;
pub(crate) use detached::{Place, detach, poll_once};
pub(crate) use ledger::Turn;
use ledger::{Ledger, Ticket};

/// Who drops a guard: what order is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Task(tokio::task::Id),
    Thread(u64),
}

impl Origin {
    /// The task that is polled or dropped on this thread, else the thread.
    pub(crate) fn current() -> Origin {
        static THREADS: AtomicU64 = AtomicU64::new(1);
        thread_local!(static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed));
        match tokio::task::try_id() {
            Some(task) => Origin::Task(task),
            // A thread that ends has no number any more; 0 stands for all of these.
            None => Origin::Thread(THREAD.try_with(|number| *number).unwrap_or(0)),
        }
    }
}

type TheLedger = Ledger<Origin, runtime::Id, Waker>;

static LEDGER: Mutex<TheLedger> = Mutex::new(Ledger::new());
/// The number of pending teardowns, so that an exit needn't lock the ledger when there are none.
static PENDING: AtomicUsize = AtomicUsize::new(0);

fn ledger() -> MutexGuard<'static, TheLedger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether any teardown is pending anywhere.
pub(crate) fn any_pending() -> bool {
    PENDING.load(Ordering::Acquire) != 0
}

/// The place in the order of a teardown that begins now.
pub(crate) fn turn(seq: u64, group: u64) -> Turn<Origin> {
    ledger().turn(Origin::current(), seq, group)
}

/// Ready when all teardowns that `turn` waits for have ended.
pub(crate) fn poll_turn(turn: &mut Turn<Origin>, cx: &mut Context<'_>) -> Poll<()> {
    let waker = cx.waker().clone();
    let (has_come, spare) = ledger().has_come(turn, waker);
    drop(spare);
    if has_come {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

/// What went wrong in a teardown whose caller is no longer there, or got another error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TeardownError {
    /// The teardown returned an error.
    #[error("the teardown of `{name}` failed: {error}")]
    #[non_exhaustive]
    Failed {
        /// The function that the context was made by.
        name: &'static str,
        /// The error, displayed.
        error: String,
    },
    /// The teardown panicked.
    #[error("the teardown of `{name}` panicked: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The function that the context was made by.
        name: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The teardown took longer than its `teardown_timeout`.
    #[error("the teardown of `{name}` was given up: it took longer than {limit:?}")]
    #[non_exhaustive]
    TimedOut {
        /// The function that the context was made by.
        name: &'static str,
        /// The `teardown_timeout`.
        limit: Duration,
    },
    /// The teardown couldn't be brought to its end.
    #[error("the teardown of `{name}` was abandoned half-way: {reason}")]
    #[non_exhaustive]
    Abandoned {
        /// The function that the context was made by.
        name: &'static str,
        /// What kept it from going on.
        reason: &'static str,
    },
}

impl TeardownError {
    /// The function that the context was made by.
    pub fn name(&self) -> &'static str {
        match self {
            TeardownError::Failed { name, .. }
            | TeardownError::Panicked { name, .. }
            | TeardownError::TimedOut { name, .. }
            | TeardownError::Abandoned { name, .. } => name,
        }
    }

    fn panicked(name: &'static str, panic: Box<dyn Any + Send>) -> TeardownError {
        TeardownError::Panicked {
            name,
            message: panic::into_text(panic),
        }
    }
}

type Hook = Arc<dyn Fn(&TeardownError) + Send + Sync>;

static HOOK: Mutex<Option<Hook>> = Mutex::new(None);

/// Installs the program's one hook for teardowns that go wrong with nobody to tell. A second call replaces
/// the first hook.
///
/// It is called on the thread where the teardown ended, beside the `tracing::error!` that is always emitted;
/// it should neither block nor panic (a panic in it is logged and goes no further).
///
/// ```
/// aioxide::teardown::on_error(|error| eprintln!("{}: {error}", error.name()));
/// ```
pub fn on_error(hook: impl Fn(&TeardownError) + Send + Sync + 'static) {
    let hook: Hook = Arc::new(hook);
    let replaced = HOOK
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(hook);
    drop(replaced);
}

/// Logs `error` and tells the hook. Never panics: it is called from `Drop`.
pub(crate) fn report(error: &TeardownError) {
    panic::guarded(|| tracing::error!(context = error.name(), "{error}"));
    let hook = HOOK.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(hook) = hook else { return };
    if catch_unwind(AssertUnwindSafe(|| hook(error))).is_err() {
        panic::guarded(|| tracing::error!("the hook of `teardown::on_error` panicked"));
    }
}

/// Reports a panic that goes no further.
pub(crate) fn report_panic(name: &'static str, panic: Box<dyn Any + Send>) {
    report(&TeardownError::panicked(name, panic));
}

/// How many teardowns were left to themselves since the program began, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All that were detached. Those in none of the other counts are still pending.
    pub detached: u64,
    /// Ended without an error.
    pub completed: u64,
    /// Ended with an error, a panic, or at their `teardown_timeout`.
    pub failed: u64,
    /// Never ended, because their runtime did or because they had none.
    pub abandoned: u64,
}

struct Counters {
    detached: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
}

static COUNTERS: Counters = Counters {
    detached: AtomicU64::new(0),
    completed: AtomicU64::new(0),
    failed: AtomicU64::new(0),
    abandoned: AtomicU64::new(0),
};

/// What has become of all detached teardowns of this process.
///
/// ```
/// let stats = aioxide::teardown::stats();
/// assert_eq!(stats.detached, stats.completed + stats.failed + stats.abandoned);
/// ```
pub fn stats() -> Stats {
    // `detached` last: an end is never counted without its beginning.
    let completed = COUNTERS.completed.load(Ordering::Acquire);
    let failed = COUNTERS.failed.load(Ordering::Acquire);
    let abandoned = COUNTERS.abandoned.load(Ordering::Acquire);
    Stats {
        detached: COUNTERS.detached.load(Ordering::Acquire),
        completed,
        failed,
        abandoned,
    }
}

/// What a [`drain`] has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// How many detached teardowns ended during the call.
    pub completed: usize,
    /// The names of the functions whose teardowns are left: still running at the timeout, or abandoned by
    /// their runtime during the call.
    pub abandoned: Vec<&'static str>,
}

/// Waits until no detached teardown of the current runtime is left, those included that are detached during
/// the call, and at most for `timeout`. Outside a runtime it waits for the teardowns of all runtimes.
///
/// Call it before a runtime ends: a runtime that is dropped abandons what still runs on it. Every worker of a
/// [`server`](macro@crate::server) does so by itself. What is left at the timeout goes on running.
///
/// Called from inside a teardown, it waits neither for that one nor for those that wait for it.
///
/// # Panics
///
/// If it has to wait, on a runtime without a time driver (`enable_time`).
///
/// # Cancellation
///
/// Dropping the future ends the wait and nothing else.
///
/// Compare `TaskTracker::wait` of tokio-util, which needs the tracker in hand wherever a task is spawned.
///
/// ```
/// # use aioxide::{Always, actxmgr};
/// # use std::time::Duration;
/// #[actxmgr]
/// async fn session() -> Always<String> {
///     let (name, exit) = yield_("session".to_owned()).await;
///     tokio::task::yield_now().await;
///     println!("{name}: {exit}");
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// drop(session().await);
/// let drained = aioxide::drain(Duration::from_secs(5)).await;
/// assert_eq!(drained.completed, 1);
/// assert!(drained.abandoned.is_empty());
/// # }
/// ```
pub async fn drain(timeout: Duration) -> Drained {
    let runtime = Handle::try_current().ok();
    let drain = OpenDrain::new(runtime.as_ref().map(Handle::id), detached::current());
    let mut all = pin!(poll_fn(|cx| drain.poll(cx)));
    let settled = poll_fn(|cx| Poll::Ready(all.as_mut().poll(cx).is_ready())).await;
    if !settled {
        if runtime.is_some() {
            let in_time = tokio::time::timeout(timeout, all).await.is_ok();
            if !in_time {
                panic::guarded(|| {
                    tracing::warn!(?timeout, "detached teardowns are left after the drain");
                });
            }
        } else {
            let mut alarm = Alarm::after(timeout);
            poll_fn(|cx| match all.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => alarm.poll(cx),
            })
            .await;
        }
    }
    drain.close()
}

/// Keeps the ledger's books right when a drain is dropped half-way.
struct OpenDrain(Option<u64>);

impl OpenDrain {
    fn new(runtime: Option<runtime::Id>, inside: Option<Ticket>) -> OpenDrain {
        let mut wake = Vec::new();
        let id = ledger().open_drain(runtime, inside, &mut wake);
        wake.into_iter().for_each(Waker::wake);
        OpenDrain(Some(id))
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(id) = self.0 else {
            return Poll::Ready(());
        };
        let waker = cx.waker().clone();
        let (done, spare) = ledger().drained(id, waker);
        drop(spare);
        if done { Poll::Ready(()) } else { Poll::Pending }
    }

    fn close(mut self) -> Drained {
        let (seen, spare) = match self.0.take() {
            Some(id) => ledger().close_drain(id),
            None => Default::default(),
        };
        drop(spare);
        Drained {
            completed: seen.ended,
            abandoned: seen.abandoned,
        }
    }
}

impl Drop for OpenDrain {
    fn drop(&mut self) {
        if let Some(id) = self.0.take() {
            let (_, spare) = ledger().close_drain(id);
            drop(spare);
        }
    }
}

/// A timeout where there is no tokio: a thread that sleeps.
struct Alarm {
    shared: Arc<Mutex<(bool, Option<Waker>)>>,
    thread: Option<std::thread::Thread>,
}

impl Alarm {
    fn after(timeout: Duration) -> Alarm {
        let shared = Arc::new(Mutex::new((false, None::<Waker>)));
        let ring = Arc::clone(&shared);
        let deadline = std::time::Instant::now().checked_add(timeout);
        let spawned = std::thread::Builder::new()
            .name("aioxide-drain".to_owned())
            .spawn(move || {
                let is_wanted = || Arc::strong_count(&ring) > 1;
                while is_wanted() {
                    match deadline.map(|deadline| {
                        deadline.saturating_duration_since(std::time::Instant::now())
                    }) {
                        None => std::thread::park(),
                        Some(Duration::ZERO) => break,
                        Some(left) => std::thread::park_timeout(left),
                    }
                }
                let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                ring.0 = true;
                if let Some(waker) = ring.1.take() {
                    waker.wake();
                }
            });
        match spawned {
            Ok(thread) => Alarm {
                shared,
                thread: Some(thread.thread().clone()),
            },
            Err(error) => {
                // Without a thread there is no way to wait with a limit: don't wait.
                panic::guarded(|| {
                    tracing::error!(%error, "no thread for the timeout of a drain outside a runtime");
                });
                shared.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
                Alarm {
                    shared,
                    thread: None,
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.0 {
            return Poll::Ready(());
        }
        shared.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared = Arc::default();
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}
