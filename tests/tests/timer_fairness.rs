//! A timer never holds its runtime, however long its ticks block. In real time, so in a program of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use aioxide::{Overlap, Timer};
use aioxide_tests::timers::{every, ms};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{Instant, interval, sleep};

const OVERLAPS: [Overlap; 6] = [
    Overlap::Skip,
    Overlap::Allow(4),
    Overlap::ALLOW,
    Overlap::Wait,
    Overlap::Queue(8),
    Overlap::Cancel,
];

/// Longer than the interval of 10 ms. A timer that never gives way blocks for three seconds and is then caught.
fn block(blocked: &AtomicU64) {
    if blocked.fetch_add(1, Relaxed) < 250 {
        std::thread::sleep(ms(12));
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn one_worker() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap()
}

/// Runs `other` as a task of `runtime`.
fn beside<T: Send + 'static>(
    runtime: &Runtime,
    other: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime.block_on(async { tokio::spawn(other).await.unwrap() })
}

/// How long a sleep of 50 ms takes on `runtime`.
fn sleeps(runtime: &Runtime) -> Duration {
    beside(runtime, async {
        let start = Instant::now();
        sleep(ms(50)).await;
        start.elapsed()
    })
}

fn beside_a_loop(runtime: &Runtime) -> Duration {
    let looping = runtime.spawn(async {
        let blocked = AtomicU64::new(0);
        let mut interval = interval(ms(10));
        loop {
            interval.tick().await;
            block(&blocked);
        }
    });
    let slept = sleeps(runtime);
    looping.abort();
    slept
}

/// Whether, and when, a tick waits too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Yields {
    Never,
    Before,
    After,
}

fn blocking(overlap: Overlap, yields: Yields) -> Timer {
    let blocked = Arc::new(AtomicU64::new(0));
    every(10).overlap(overlap).start(move |_| {
        let blocked = blocked.clone();
        async move {
            if yields == Yields::Before {
                yield_now().await;
            }
            block(&blocked);
            if yields == Yields::After {
                yield_now().await;
            }
        }
    })
}

/// How long a sleep and a stop take beside the timer.
fn beside_a_timer(runtime: &Runtime, start: impl FnOnce() -> Timer) -> (Duration, Duration) {
    let timer = {
        let _within = runtime.enter();
        start()
    };
    let slept = sleeps(runtime);
    let stop = Instant::now();
    beside(runtime, async move { timer.stop().await });
    (slept, stop.elapsed())
}

fn check(runtime: fn() -> Runtime, yields: Yields) {
    for overlap in OVERLAPS {
        // The best of three: others run on this machine too.
        let looped = (0..3).map(|_| beside_a_loop(&runtime())).min().unwrap();
        let measured = (0..3).map(|_| beside_a_timer(&runtime(), || blocking(overlap, yields)));
        let (slept, stopped) = measured.min().unwrap();
        assert!(
            slept <= 2 * looped,
            "{slept:?} beside a timer with {overlap:?}, {looped:?} beside a loop"
        );
        assert!(
            stopped < ms(500),
            "a stop with {overlap:?} took {stopped:?}"
        );
    }
}

#[test]
fn others_get_their_turn_on_a_current_thread_runtime() {
    check(current_thread, Yields::Never);
}

#[test]
fn others_get_their_turn_on_a_single_worker() {
    check(one_worker, Yields::Never);
}

#[test]
fn others_get_their_turn_when_ticks_wait_too() {
    check(current_thread, Yields::Before);
    check(current_thread, Yields::After);
    check(one_worker, Yields::After);
}

/// Each takes a little, and more are due than there is time for.
#[test]
fn others_get_their_turn_beside_many_short_ticks() {
    for overlap in OVERLAPS {
        let measured = (0..3).map(|_| {
            beside_a_timer(&current_thread(), || {
                let ticks = AtomicU64::new(0);
                Timer::every(Duration::from_micros(100))
                    .overlap(overlap)
                    .start(move |_| {
                        if ticks.fetch_add(1, Relaxed) < 15_000 {
                            std::thread::sleep(Duration::from_micros(200));
                        }
                        async {}
                    })
            })
        });
        let (slept, stopped) = measured.min().unwrap();
        assert!(slept < ms(120), "{slept:?} with {overlap:?}");
        assert!(stopped < ms(500), "{stopped:?} with {overlap:?}");
    }
}
