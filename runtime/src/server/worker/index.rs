//! Which worker the code that asks runs in.

use std::cell::Cell;

thread_local! {
    /// Of a thread that is a worker's; the index of an extra, and of the main context, is none.
    static THREAD: Cell<Option<Option<usize>>> = const { Cell::new(None) };
}

/// The index of the worker that this code runs in: on its event loop and on the threads of its
/// `spawn_blocking`, and anywhere in a process worker. `None` elsewhere, and in extras.
pub fn worker_index() -> Option<usize> {
    THREAD
        .get()
        .flatten()
        .or_else(|| PROCESS_INDEX.get().copied())
}

/// Set once in the life of a process worker.
static PROCESS_INDEX: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

/// Marks this thread as one of the worker's, for good.
pub(crate) fn set_thread_index(index: Option<usize>) {
    THREAD.set(Some(index));
}

/// Marks this thread as the worker's until the mark is dropped: a process's first thread has more to do after it.
pub(super) fn mark_thread(index: Option<usize>) -> ThreadMark {
    set_thread_index(index);
    ThreadMark
}

pub(super) struct ThreadMark;

impl Drop for ThreadMark {
    fn drop(&mut self) {
        THREAD.set(None);
    }
}

/// Whether this thread is one of a worker's, an extra's or the main context's.
pub(crate) fn is_on_worker_thread() -> bool {
    THREAD.get().is_some()
}

/// Marks this process as the worker's.
#[cfg(feature = "process")]
pub(crate) fn set_process_index(index: usize) {
    PROCESS_INDEX.get_or_init(|| index);
}
