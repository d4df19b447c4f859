//! Which tick is being polled on this thread: one that waits for its own timer must not wait for itself.

use std::cell::Cell;

use super::shared::Shared;

thread_local! {
    /// By the address of what its timer shares, and its number.
    static INSIDE: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// Polls a tick. Ends with its own drop, also in a panic.
pub(super) struct Inside((usize, u64));

impl Inside {
    pub(super) fn enter(shared: &Shared, number: u64) -> Inside {
        Inside(INSIDE.replace((address(shared), number)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// The number of the tick of this timer that is being polled.
pub(super) fn tick_of(shared: &Shared) -> Option<u64> {
    let (timer, number) = INSIDE.get();
    (timer == address(shared)).then_some(number)
}

fn address(shared: &Shared) -> usize {
    std::ptr::from_ref(shared) as usize
}
