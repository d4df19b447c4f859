//! Other attributes stay, and stay in place.
#![deny(deprecated, unused_must_use, dead_code, unused_variables)]
use aioxide::{Tick, timer};

/// Documented.
#[cfg(not(any()))]
#[timer(100ms)]
#[allow(dead_code)]
#[must_use = "keep it"]
#[inline(never)]
#[track_caller]
async fn kept(#[allow(unused_variables)] tick: Tick, #[cfg(any())] absent: u8, #[cfg(not(any()))] present: u8) {
    assert_eq!(present, 7);
}

#[cfg(any())]
#[timer(100ms)]
async fn kept() {}

#[cfg_attr(not(any()), timer(100ms))]
#[allow(dead_code)]
async fn never_started() {}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    kept(7).detach();
}
