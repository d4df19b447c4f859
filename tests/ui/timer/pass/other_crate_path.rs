//! The library under another name.
mod vendored {
    pub use aioxide as timers;
}
use vendored::timers::{Tick, timer};

#[timer(100ms, overlap = allow(2), crate = crate::vendored::timers)]
async fn heartbeat(tick: Tick) {
    let _ = tick.index();
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    heartbeat().detach();
}
