//! How many teardowns were left to themselves, and how they ended.

use std::sync::atomic::{AtomicU64, Ordering};

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

pub(super) struct Counters {
    pub(super) detached: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) abandoned: AtomicU64,
}

pub(super) static COUNTERS: Counters = Counters {
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
