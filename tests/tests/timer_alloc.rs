//! What timers allocate. The allocator counts for the whole process, so there is one test.

use std::alloc::System;

use aioxide::{Timer, timer};
use aioxide_tests::timers::{ms, paused};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tokio::time::sleep;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TIMERS: usize = 100;

#[timer(100ms)]
async fn empty() {}

/// With two arguments, and more than one poll.
#[timer(100ms)]
async fn suspended(name: &'static str, number: u64) {
    tokio::task::yield_now().await;
    assert_eq!(name.len() as u64, number);
}

fn check(start: fn() -> Timer) {
    paused().block_on(async {
        let mut timers = Vec::with_capacity(TIMERS);
        let region = Region::new(ALLOCATOR);
        timers.extend((0..TIMERS).map(|_| start()));
        let started = region.change();
        // What handle and task share, the ticks, and the task; besides these the runtime's queue.
        assert!(started.allocations < 3 * TIMERS + 20, "{started:?}");
        // The next multiple of 128 would be too much for the task, and slow down thousands of timers.
        let most = (192 + 64 + 256) * TIMERS + 8192;
        assert!(started.bytes_allocated < most, "{started:?}");

        // The alarm is made, and the runtime's queues have grown.
        sleep(ms(250)).await;
        // The test's other thread may allocate as well, but not every time.
        let mut all = Vec::new();
        for second in 1..=3 {
            let region = Region::new(ALLOCATOR);
            sleep(ms(1000)).await;
            all.push(region.change());
            let due = 3 + 10 * second;
            assert!(timers.iter().all(|timer| timer.stats().completed == due));
        }
        let quiet = |ticked: &Stats| (ticked.allocations, ticked.reallocations) == (0, 0);
        assert!(all.iter().any(quiet), "{all:?}");
    });
}

#[test]
fn ticks_allocate_nothing() {
    check(empty);
    check(|| suspended("four", 4));
}
