//! A crate may have names of its own that look like those of the standard library, and like ours.
#![allow(dead_code, non_camel_case_types, unused_macros)]

mod core {}
mod std {}
mod aioxide_private {}

struct Result;
struct Option;
struct Some;
struct None;
struct Timer;
struct Overlap;
struct Duration;
struct Box;
fn drop() {}
fn every() {}
macro_rules! panic { () => { compile_error!("not this one") }; }

#[aioxide::timer(100ms, overlap = queue(2), missed = burst(2), jitter = 10ms, phase = random, timeout = 5s, grace = 1s)]
async fn heartbeat(tick: aioxide::Tick, start: u32, argument: u32, each: u32) {
    let _ = (tick, start, argument, each);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    heartbeat(1, 2, 3).detach();
}
