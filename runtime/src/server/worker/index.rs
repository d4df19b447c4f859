//! Which worker the code that asks runs in.

use std::cell::Cell;

thread_local! {
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The index of the worker that this code runs in: on its event loop and on the threads of its
/// `spawn_blocking`, and anywhere in a process worker. `None` elsewhere, and in extras.
pub fn worker_index() -> Option<usize> {
    INDEX.get().or_else(|| PROCESS_INDEX.get().copied())
}

/// Set once in the life of a process worker.
static PROCESS_INDEX: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

/// Marks this thread as one of the worker's.
pub(crate) fn set_thread_index(index: Option<usize>) {
    INDEX.set(index);
}

/// Marks this process as the worker's.
#[cfg(feature = "process")]
pub(crate) fn set_process_index(index: usize) {
    PROCESS_INDEX.get_or_init(|| index);
}
