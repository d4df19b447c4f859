//! The lease of a plain `single`, which whoever runs this thread's event loop provides: one worker of a server runs such a
//! timer at a time.

use std::cell::RefCell;

use crate::timer::lease::BoxLease;

/// What a runner of event loops provides: a lease among those that are alike.
///
/// `hold` gives it to one of them, with `left` at `Duration::MAX`, and with what was recorded last; `changed` is ready
/// when it is free again, after `release` or when its holder is gone with all its ticks.
pub(crate) type WorkerLease = BoxLease;

thread_local! {
    static LEASE: RefCell<Option<WorkerLease>> = const { RefCell::new(None) };
}

/// Timers that are started on this thread from now on, and have `single`, go by this lease.
#[allow(dead_code, reason = "it is the server's to call")]
pub(crate) fn install(lease: Option<WorkerLease>) {
    LEASE.with(|installed| *installed.borrow_mut() = lease);
}

/// That of this thread.
pub(in crate::timer) fn installed() -> Option<WorkerLease> {
    LEASE.with(|installed| installed.borrow().clone())
}
