//! Expansions break none of the lints that a strict crate denies.
#![deny(warnings, missing_docs, unused, clippy::all, clippy::pedantic)]
#![allow(unknown_lints)]

use std::sync::Arc;
use std::time::Duration;

use aioxide::{Tick, timer};

/// Beats.
#[timer(100ms, overlap = cancel, grace = 1s)]
pub async fn heartbeat(_tick: Tick, peers: Arc<u32>, (a, _): (u8, u8)) -> Result<(), String> {
    if *peers > 7 {
        return Err(format!("{a}"));
    }
    Ok(())
}

/// Never ends by itself.
#[timer(period, first = interval)]
pub async fn forever(mut count: u32, period: Duration) {
    loop {
        count += 1;
        tokio::time::sleep(period * count).await;
    }
}

/// Beats.
pub struct Heart;

impl Heart {
    /// Beats.
    #[timer(1h30m)]
    #[must_use]
    pub async fn beat(self: Arc<Self>) {}
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    heartbeat(Arc::new(7), (1, 2)).detach();
    forever(1, Duration::from_millis(1)).detach();
    Arc::new(Heart).beat().detach();
}
