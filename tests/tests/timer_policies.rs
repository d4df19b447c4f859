//! The timelines of the overlap and missed policies, under a paused clock.

use std::sync::{Arc, Mutex};

use aioxide::{Missed, Overlap, Timer, TimerBuilder};
use aioxide_tests::timers::{every, ms};
use tokio::time::{Instant, sleep};

/// Starts ticks that take `length` ms, stops after `until` ms, and gives the starts with the stats.
async fn run(timer: TimerBuilder, length: u64, until: u64) -> (Vec<u64>, Timer) {
    let starts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&starts);
    let start = Instant::now();
    let timer = timer.start(move |_| {
        seen.lock()
            .unwrap()
            .push(start.elapsed().as_millis() as u64);
        sleep(ms(length))
    });
    sleep(ms(until)).await;
    timer.stop().await;
    assert_eq!(start.elapsed(), ms(until), "the stop took time");
    let starts = starts.lock().unwrap().clone();
    assert_eq!(timer.stats().started, starts.len() as u64);
    assert_eq!(timer.stats().running, 0);
    (starts, timer)
}

#[tokio::test(start_paused = true)]
async fn allow() {
    let (starts, timer) = run(every(100).overlap(Overlap::ALLOW), 250, 1000).await;
    assert_eq!(starts, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    let stats = timer.stats();
    assert_eq!((stats.completed, stats.cancelled), (8, 2));
}

#[tokio::test(start_paused = true)]
async fn allow_two() {
    let (starts, timer) = run(every(100).overlap(Overlap::Allow(2)), 250, 1000).await;
    assert_eq!(starts, [0, 100, 300, 400, 600, 700, 900]);
    assert_eq!(timer.stats().skipped, 3);
}

#[tokio::test(start_paused = true)]
async fn skip() {
    let (starts, timer) = run(every(100), 250, 1000).await;
    assert_eq!(starts, [0, 300, 600, 900]);
    let stats = timer.stats();
    assert_eq!((stats.completed, stats.skipped, stats.cancelled), (3, 6, 1));
}

#[tokio::test(start_paused = true)]
async fn wait() {
    let (starts, timer) = run(every(100).overlap(Overlap::Wait), 250, 1000).await;
    assert_eq!(starts, [0, 250, 500, 750]);
    let stats = timer.stats();
    assert_eq!((stats.completed, stats.cancelled), (4, 0));
    assert_eq!(stats.started + stats.skipped, 10, "due times in [0, 1000)");
}

#[tokio::test(start_paused = true)]
async fn queue() {
    let (starts, timer) = run(every(100).overlap(Overlap::Queue(2)), 250, 1000).await;
    assert_eq!(starts, [0, 250, 500, 750]);
    let stats = timer.stats();
    assert_eq!(stats.completed, 4);
    assert_eq!(stats.started + stats.skipped, 10, "due times in [0, 1000)");
}

#[tokio::test(start_paused = true)]
async fn cancel() {
    let (starts, timer) = run(every(100).overlap(Overlap::Cancel), 250, 1000).await;
    assert_eq!(starts, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    let stats = timer.stats();
    assert_eq!((stats.completed, stats.cancelled), (0, 10));
}

#[tokio::test(start_paused = true)]
async fn fixed_delay() {
    let (starts, timer) = run(Timer::after(ms(100)), 250, 1000).await;
    assert_eq!(starts, [0, 350, 700]);
    assert_eq!(timer.stats().completed, 3);
}

/// Lets a timer of 100 ms with instant ticks miss its due times from 100 to 700 ms; what ran, as
/// (start, due, missed), until 900 ms.
async fn stalled(missed: Missed) -> Vec<(u64, u64, u64)> {
    let ticks = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ticks);
    let start = Instant::now();
    let timer = every(100).missed(missed).start(move |tick| {
        let at = |instant: Instant| (instant - start).as_millis() as u64;
        assert_eq!(tick.scheduled() + tick.lateness(), Instant::now());
        assert_eq!(at(tick.scheduled()), tick.index() * 100);
        let tick = (at(Instant::now()), at(tick.scheduled()), tick.missed());
        seen.lock().unwrap().push(tick);
        async {}
    });
    sleep(ms(50)).await;
    tokio::time::advance(ms(720)).await;
    sleep(ms(180)).await;
    timer.stop().await;
    let ticks = ticks.lock().unwrap().clone();
    let stats = timer.stats();
    assert_eq!(stats.completed, ticks.len() as u64);
    assert_eq!(stats.completed + stats.missed, 10, "due times until 950");
    ticks
}

#[tokio::test(start_paused = true)]
async fn missed_coalesce() {
    let ticks = stalled(Missed::Coalesce).await;
    assert_eq!(
        ticks,
        [(0, 0, 0), (770, 700, 6), (800, 800, 0), (900, 900, 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn missed_skip() {
    let ticks = stalled(Missed::Skip).await;
    assert_eq!(ticks, [(0, 0, 0), (800, 800, 7), (900, 900, 0)]);
}

#[tokio::test(start_paused = true)]
async fn missed_burst() {
    let ticks = stalled(Missed::Burst(3)).await;
    let burst = [(770, 500, 4), (770, 600, 0), (770, 700, 0)];
    assert_eq!(ticks[1..4], burst);
    assert_eq!(ticks[4..], [(800, 800, 0), (900, 900, 0)]);
}
