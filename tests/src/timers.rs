//! What the tests of timers have in common.

use std::time::Duration;

use aioxide::{Timer, TimerBuilder};
use tokio::runtime::{Builder, Runtime};

/// Milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A timer with that interval in milliseconds.
pub fn every(interval: u64) -> TimerBuilder {
    Timer::every(ms(interval))
}

/// Time passes when nothing else is left to do.
pub fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}
