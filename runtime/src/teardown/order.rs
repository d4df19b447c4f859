//! The ledger of this process: who waits for which teardowns.

#[cfg(feature = "monitor")]
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime;

use super::ledger::{Arrival, Fate, Ledger, Range, Ticket, Turn};
use super::place::{InnerPlace, Key, Place};

type TheLedger = Ledger<Key, runtime::Id, Waker>;

static LEDGER: Mutex<TheLedger> = Mutex::new(Ledger::new());
/// The number of pending teardowns, so that nobody needs to lock the ledger when there are none.
static PENDING: AtomicUsize = AtomicUsize::new(0);

pub(super) fn ledger() -> MutexGuard<'static, TheLedger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether any teardown is pending anywhere.
fn any_pending() -> bool {
    PENDING.load(Ordering::Acquire) != 0
}

/// A wait for teardowns that were pending when it began.
#[derive(Debug)]
pub(crate) struct Wait(Turn<Key>);

impl Wait {
    /// For those in `range`, if there are any.
    fn for_range(range: impl FnOnce() -> Range<Key>) -> Option<Wait> {
        if !any_pending() {
            return None;
        }
        ledger().turn(range()).map(Wait)
    }

    /// For all in `place`, if there are any.
    pub(crate) fn for_all_in(place: &Place) -> Option<Wait> {
        Wait::for_range(|| place.all())
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let (has_come, spare) = ledger().has_come(&mut self.0, waker);
        drop(spare);
        if has_come {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.0.is_waiting() {
            let spare = ledger().give_up(&self.0);
            drop(spare);
        }
    }
}

impl InnerPlace {
    /// A wait for all that is inside whatever has this place as its own, if something is pending.
    pub(crate) fn wait_inside(&self) -> Option<Wait> {
        let (place, at) = self.outer();
        Wait::for_range(|| Range {
            place: place.key(),
            from: at,
            to: at,
        })
    }

    /// Ready when nothing is pending any more of what was entered in it. `wait` is empty at first, and kept by the
    /// caller.
    #[cfg(any(feature = "scope", feature = "timer"))]
    pub(crate) fn poll_settled(&self, wait: &mut Option<Wait>, cx: &mut Context<'_>) -> Poll<()> {
        if wait.is_none() && self.has_pending() {
            *wait = self.wait_inside();
        }
        if let Some(pending) = wait {
            std::task::ready!(Pin::new(pending).poll(cx));
        }
        *wait = None;
        Poll::Ready(())
    }
}

/// Whether something is pending that was entered in `place` after `at`, or is inside such.
pub(crate) fn is_later_pending(place: &Place, at: u64) -> bool {
    any_pending()
        && ledger().is_any_in(Range {
            place: place.key(),
            from: at.saturating_add(1),
            to: u64::MAX,
        })
}

/// The context whose own place `inner` is has been entered: it is after all that was entered until now.
#[inline(always)]
pub(crate) fn entered(inner: &mut InnerPlace) {
    let (outer, at) = inner.outer();
    let now = outer.next();
    if at == 0 {
        inner.begin(now);
    } else {
        renumber(inner, now);
    }
}

/// What has been entered in the setup is inside it, wherever it is now.
#[cold]
fn renumber(inner: &mut InnerPlace, now: u64) {
    let mut ledger = ledger();
    let (outer, old) = inner.outer();
    let outer = outer.key();
    inner.begin(now);
    let own = inner.place().key();
    ledger.renumber(own, outer, old, now);
}

/// A teardown is left to itself, of the context that is at `at` in `place`.
pub(super) fn arrive(
    name: &'static str,
    runtime: runtime::Id,
    place: &Place,
    at: u64,
    begun: bool,
) -> (Ticket, Option<Wait>) {
    // Numbers change under the lock, so that they are read under it.
    let mut ledger = ledger();
    PENDING.fetch_add(1, Ordering::AcqRel);
    place.add_pending();
    let (ticket, turn) = ledger.arrive(Arrival {
        name,
        runtime,
        path: place.path(at),
        begun,
    });
    (ticket, turn.map(Wait))
}

/// How many are pending on this runtime, or on any, by name.
#[cfg(feature = "monitor")]
pub(crate) fn pending(on: Option<runtime::Id>) -> BTreeMap<&'static str, u64> {
    let mut names = BTreeMap::new();
    if any_pending() {
        for name in ledger().names(on) {
            *names.entry(name).or_default() += 1;
        }
    }
    names
}

/// A wait for those that the teardown has dropped itself, if there are any.
pub(super) fn last_wait(ticket: Ticket) -> Option<Wait> {
    ledger().last_turn(ticket).map(Wait)
}

/// The teardown is over.
pub(super) fn end(ticket: Ticket, fate: Fate, place: &Place) {
    let mut wake = Vec::new();
    {
        let mut ledger = ledger();
        ledger.end(ticket, fate, &mut wake);
        place.remove_pending();
        PENDING.fetch_sub(1, Ordering::AcqRel);
    }
    wake.into_iter().for_each(Waker::wake);
}
