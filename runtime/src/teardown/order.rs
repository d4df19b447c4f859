//! The ledger of this process: who waits for which teardowns.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime;

use super::ledger::{Ledger, Turn};

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
pub(super) static PENDING: AtomicUsize = AtomicUsize::new(0);

pub(super) fn ledger() -> MutexGuard<'static, TheLedger> {
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
