//! The lease of a plain `single`, which whoever runs this thread's event loop provides: one worker of a server runs such a
//! timer at a time.

use std::cell::RefCell;

use crate::timer::lease::BoxLease;

thread_local! {
    static LEASE: RefCell<Option<BoxLease>> = const { RefCell::new(None) };
}

/// Timers that are started on this thread from now on, and have a plain `single`, go by this lease. It doesn't expire:
/// `hold` gives it with `left` at `Duration::MAX`, and `changed` is ready when it is free again, after `release` or when
/// its holder is gone with all its ticks.
#[cfg(feature = "server")]
pub(crate) fn install(lease: Option<BoxLease>) {
    LEASE.with(|installed| *installed.borrow_mut() = lease);
}

/// That of this thread.
pub(in crate::timer) fn installed() -> Option<BoxLease> {
    LEASE.with(|installed| installed.borrow().clone())
}
