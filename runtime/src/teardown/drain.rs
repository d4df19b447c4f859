//! Waiting until no detached teardown is left.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{self, Handle};

use super::alarm::Alarm;
use super::order::ledger;
use super::place::Place;
use crate::panic;

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
    let drain = OpenDrain::new(runtime.as_ref().map(Handle::id), &Place::current());
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
    fn new(runtime: Option<runtime::Id>, place: &Place) -> OpenDrain {
        let mut wake = Vec::new();
        let id = {
            let mut ledger = ledger();
            ledger.open_drain(runtime, &place.path(0), &mut wake)
        };
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
