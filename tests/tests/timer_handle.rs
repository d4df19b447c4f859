//! What can be done with a timer, and to it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aioxide::{Missed, Overlap, Tick, Timer, TimerBuilder, actxmgr};
use aioxide_tests::timers::{every, ms, paused};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// When ticks started, in ms since the log was made.
#[derive(Clone)]
struct Log(Instant, Arc<Mutex<Vec<u64>>>);

impl Log {
    fn new() -> Log {
        Log(Instant::now(), Arc::default())
    }

    fn note(&self) {
        let at = self.0.elapsed().as_millis() as u64;
        self.1.lock().unwrap().push(at);
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.1.lock().unwrap())
    }

    /// Starts a timer whose ticks take `length` ms.
    fn start(&self, timer: TimerBuilder, length: u64) -> Timer {
        let log = self.clone();
        timer.start(move |_| {
            log.note();
            sleep(ms(length))
        })
    }
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicU64>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_tick_is_due_when_it_is_asked_for() {
    for (first, starts) in [
        (0, [0, 100]),
        (100, [100, 200]),
        (30, [30, 130]),
        (250, [250, 350]),
    ] {
        let log = Log::new();
        let timer = log.start(every(100).first(ms(first)), 0);
        sleep(ms(first + 150)).await;
        timer.stop().await;
        assert_eq!(log.take(), starts);
    }
}

#[tokio::test(start_paused = true)]
async fn a_phase_shifts_the_grid_once() {
    let mut phases = std::collections::HashSet::new();
    for _ in 0..50 {
        let start = Instant::now();
        let dues = Arc::new(Mutex::new(Vec::new()));
        let seen = dues.clone();
        let timer = every(100).phase().start(move |tick| {
            seen.lock().unwrap().push(tick.scheduled());
            async {}
        });
        sleep(ms(350)).await;
        timer.stop().await;
        let dues = dues.lock().unwrap();
        assert!(dues[0] - start < ms(100));
        assert!(dues.windows(2).all(|pair| pair[1] - pair[0] == ms(100)));
        phases.insert(dues[0] - start);
    }
    assert!(phases.len() > 40, "random");
}

#[tokio::test(start_paused = true)]
async fn jitter_shifts_starts_and_never_the_grid() {
    let latenesses = Arc::new(Mutex::new(Vec::new()));
    let seen = latenesses.clone();
    let timer = every(100).jitter(ms(50)).start(move |tick| {
        assert_eq!(tick.scheduled() + tick.lateness(), Instant::now());
        seen.lock().unwrap().push((tick.index(), tick.lateness()));
        async {}
    });
    sleep(ms(20_099)).await;
    timer.stop().await;
    let latenesses = latenesses.lock().unwrap();
    assert_eq!(latenesses.len(), 201);
    for (i, (index, lateness)) in latenesses.iter().enumerate() {
        assert_eq!(*index, i as u64);
        // tokio's timers round up to the next millisecond.
        assert!(*lateness < ms(51), "{lateness:?}");
    }
    let late = latenesses.iter().filter(|(_, lateness)| *lateness > ms(25));
    assert!((50..150).contains(&late.count()), "uniform");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_takes_too_long_is_dropped_and_failed() {
    let dropped = Arc::new(AtomicU64::new(0));
    for overlap in [Overlap::Skip, Overlap::Allow(3)] {
        let held = dropped.clone();
        let timer = every(100)
            .timeout(ms(150))
            .overlap(overlap)
            .start(move |_| {
                let held = Dropped(held.clone());
                async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                }
            });
        sleep(ms(149)).await;
        assert_eq!((dropped.load(SeqCst), timer.stats().failed), (0, 0));
        sleep(ms(2)).await;
        assert_eq!((dropped.swap(0, SeqCst), timer.stats().failed), (1, 1));
        timer.stop().await;
        dropped.store(0, SeqCst);
    }
}

/// Cleans up for 30 ms when it is asked to end.
async fn cleans_up(tick: Tick, cleaned: Arc<AtomicU64>) {
    tokio::select! {
        () = tick.cancelled() => {
            sleep(ms(30)).await;
            cleaned.fetch_add(1, SeqCst);
        }
        () = sleep(ms(1000)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_ticks_the_grace() {
    for (overlap, running) in [(Overlap::Skip, 1), (Overlap::Allow(9), 3)] {
        let cleaned = Arc::new(AtomicU64::new(0));
        let counter = cleaned.clone();
        let timer = every(100)
            .grace(ms(50))
            .overlap(overlap)
            .start(move |tick| cleans_up(tick, counter.clone()));
        sleep(ms(250)).await;
        assert_eq!(timer.stats().running, running);
        let stop = Instant::now();
        timer.stop().await;
        assert_eq!(stop.elapsed(), ms(30), "no longer than they need");
        assert_eq!(cleaned.load(SeqCst), running);
        assert_eq!(timer.stats().cancelled, running);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_ignores_the_request_is_dropped_after_the_grace() {
    let timer = every(100).grace(ms(50)).start(|_| sleep(ms(10_000)));
    sleep(ms(10)).await;
    let stop = Instant::now();
    timer.stop().await;
    assert_eq!(stop.elapsed(), ms(50));
    assert_eq!(timer.stats().cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_tick_cleans_up_first_and_the_grid_stays() {
    let log = Log::new();
    let cleaned = Arc::new(AtomicU64::new(0));
    let (note, counter) = (log.clone(), cleaned.clone());
    let timer = every(100)
        .grace(ms(50))
        .overlap(Overlap::Cancel)
        .start(move |tick| {
            note.note();
            cleans_up(tick, counter.clone())
        });
    sleep(ms(350)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 130, 230, 330]);
    assert_eq!(cleaned.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_tick_learns_of_its_end_without_a_grace() {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let timer = every(100).overlap(Overlap::Cancel).start(move |tick| {
        let sender = sender.clone();
        tokio::spawn(async move {
            tick.cancelled().await;
            sender.send(tick.index()).unwrap();
        });
        std::future::pending::<()>()
    });
    assert_eq!(receiver.recv().await, Some(0));
    assert_eq!(receiver.recv().await, Some(1));
    drop(timer);
    assert_eq!(receiver.recv().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn stopping_again_does_no_harm() {
    let log = Log::new();
    let timer = log.start(every(100).grace(ms(20)), 1000);
    sleep(ms(50)).await;
    tokio::join!(timer.stop(), timer.stop(), timer.finish(ms(1)));
    timer.stop().await;
    assert!(timer.finish(ms(1)).await, "nothing left to cancel");
    timer.trigger();
    timer.resume();
    sleep(ms(500)).await;
    assert_eq!(log.take(), [0]);
    assert_eq!(timer.stats().cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_cancelled_still_stops() {
    let log = Log::new();
    let timer = log.start(every(100).grace(ms(60)), 1000);
    sleep(ms(50)).await;
    assert!(tokio::time::timeout(ms(1), timer.stop()).await.is_err());
    sleep(ms(500)).await;
    assert_eq!(log.take(), [0]);
    assert_eq!((timer.stats().running, timer.stats().cancelled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn finishing_lets_ticks_end() {
    let log = Log::new();
    let timer = log.start(every(100).overlap(Overlap::Allow(5)), 250);
    sleep(ms(220)).await;
    let finish = Instant::now();
    assert!(timer.finish(ms(1000)).await);
    assert_eq!(finish.elapsed(), ms(230));
    assert_eq!(log.take(), [0, 100, 200]);
    assert_eq!(timer.stats().completed, 3);
}

#[tokio::test(start_paused = true)]
async fn finishing_in_vain_stops() {
    let log = Log::new();
    let timer = log.start(every(100).grace(ms(40)), 1000);
    sleep(ms(20)).await;
    let finish = Instant::now();
    assert!(!timer.finish(ms(100)).await);
    assert_eq!(finish.elapsed(), ms(140), "timeout and grace");
    assert_eq!((log.take(), timer.stats().cancelled), (vec![0], 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_overtakes_a_finish() {
    let timer = every(100).start(|_| sleep(ms(1000)));
    sleep(ms(20)).await;
    let start = Instant::now();
    let (finished, ()) = tokio::join!(timer.finish(ms(500)), async {
        sleep(ms(30)).await;
        timer.stop().await;
    });
    assert!(!finished);
    assert_eq!(start.elapsed(), ms(30));
}

#[tokio::test(start_paused = true)]
async fn dropping_stops_without_grace() {
    let dropped = Arc::new(AtomicU64::new(0));
    let held = dropped.clone();
    let timer = every(100).grace(ms(1000)).start(move |_| {
        let held = Dropped(held.clone());
        async move {
            let _held = held;
            sleep(ms(1000)).await;
        }
    });
    sleep(ms(50)).await;
    drop(timer);
    assert_eq!(dropped.load(SeqCst), 0, "not before the timer's task runs");
    yield_now().await;
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_detached_timer_lives_on() {
    let log = Log::new();
    log.start(every(100), 0).detach();
    sleep(ms(250)).await;
    assert_eq!(log.take(), [0, 100, 200]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_keeps_the_grid_and_nothing_is_made_up_for() {
    let log = Log::new();
    let timer = log.start(every(100), 0);
    sleep(ms(150)).await;
    timer.pause();
    timer.pause();
    sleep(ms(330)).await;
    timer.resume();
    timer.resume();
    sleep(ms(170)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 100, 500, 600]);
    let stats = timer.stats();
    assert_eq!((stats.skipped, stats.missed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pause_at_a_grid_point_comes_first_and_so_does_a_resume() {
    let log = Log::new();
    let timer = log.start(every(100), 0);
    sleep(ms(200)).await;
    timer.pause();
    sleep(ms(300)).await;
    timer.resume();
    sleep(ms(50)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 100, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_over_a_stall_is_one_too() {
    let log = Log::new();
    let timer = log.start(every(100), 0);
    sleep(ms(150)).await;
    timer.pause();
    tokio::time::advance(ms(1000)).await;
    timer.resume();
    sleep(ms(100)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 100, 1200]);
    assert_eq!(timer.stats().missed, 0);
}

#[tokio::test(start_paused = true)]
async fn triggered_ticks_obey_the_overlap() {
    for (overlap, starts) in [
        (Overlap::Skip, vec![0, 100]),
        (Overlap::Allow(2), vec![0, 50, 100]),
        (Overlap::Wait, vec![0, 80, 160]),
        (Overlap::Cancel, vec![0, 50, 50, 100]),
    ] {
        let log = Log::new();
        let timer = log.start(every(100).overlap(overlap), 80);
        sleep(ms(50)).await;
        timer.trigger();
        timer.trigger();
        sleep(ms(130)).await;
        timer.stop().await;
        assert_eq!(log.take(), starts, "{overlap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trigger_works_in_a_pause_and_beside_a_fixed_delay() {
    let log = Log::new();
    let timer = log.start(Timer::after(ms(100)), 10);
    sleep(ms(50)).await;
    timer.trigger();
    sleep(ms(200)).await;
    timer.pause();
    timer.trigger();
    sleep(ms(300)).await;
    timer.resume();
    sleep(ms(110)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 50, 160, 250, 650]);
}

#[tokio::test(start_paused = true)]
async fn a_new_interval_counts_from_the_last_due_time() {
    let log = Log::new();
    let timer = log.start(every(100), 0);
    sleep(ms(150)).await;
    timer.set_interval(ms(200)).unwrap();
    sleep(ms(400)).await;
    assert_eq!(log.take(), [0, 100, 300, 500]);
    timer.set_interval(ms(10)).unwrap();
    sleep(ms(15)).await;
    assert_eq!(
        log.take(),
        [550, 560],
        "at once, since 510 has passed, and on that grid"
    );
    timer.set_interval(Duration::MAX).unwrap();
    sleep(ms(100_000)).await;
    assert!(log.take().is_empty());
    timer.set_interval(ms(30)).unwrap();
    sleep(ms(29)).await;
    assert_eq!(
        log.take().len(),
        2,
        "at once, and on the grid of the last due time"
    );
    timer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_knows_the_interval_of_its_start() {
    for (timer, intervals) in [
        (every(100), [100, 100, 200, 200]),
        (Timer::after(ms(100)), [100, 100, 200, 200]),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let seeing = seen.clone();
        let timer = timer.start(move |tick| {
            let seen = seeing.clone();
            async move {
                sleep(ms(60)).await;
                seen.lock().unwrap().push(tick.interval());
            }
        });
        // While the second tick runs, with either cadence.
        sleep(ms(165)).await;
        timer.set_interval(ms(200)).unwrap();
        sleep(ms(660)).await;
        timer.stop().await;
        assert_eq!(seen.lock().unwrap()[..4], intervals.map(ms));
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_zero_is_refused() {
    let timer = every(100).jitter(ms(10)).start(|_| async {});
    let error = timer.set_interval(Duration::ZERO).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a timer's interval can't be 0ns; it has to be longer than 10ms"
    );
    assert!(timer.set_interval(ms(10)).is_err());
    assert!(timer.set_interval(ms(11)).is_ok());
    assert_eq!(
        panic_of(|| drop(Timer::every(Duration::ZERO))),
        "the interval of a timer must not be zero"
    );
    assert_eq!(
        panic_of(|| drop(Timer::after(Duration::ZERO))),
        "the interval of a timer must not be zero"
    );
    assert!(
        panic_of(|| drop(every(10).jitter(ms(10)).start(|_| async {})))
            .contains("10ms isn't less than 10ms")
    );
    assert!(panic_of(|| drop(every(10).overlap(Overlap::Allow(0)))).contains("`Allow(0)`"));
    assert!(panic_of(|| drop(every(10).missed(Missed::Burst(0)))).contains("`Burst(0)`"));
}

fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("no panic");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => (*other.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[test]
fn a_timer_needs_a_runtime_with_time() {
    let panic = panic_of(|| drop(every(100).name("beat").start(|_| async {})));
    assert!(
        panic.starts_with("timer `beat` was started outside a tokio runtime"),
        "{panic}"
    );
    let runtime = Builder::new_current_thread().build().unwrap();
    let panic = runtime.block_on(async { panic_of(|| drop(every(100).start(|_| async {}))) });
    assert!(panic.contains("timers are disabled"), "{panic}");
}

#[tokio::test(start_paused = true)]
async fn intervals_beyond_the_clock_are_never_due_again() {
    for interval in [
        Duration::MAX,
        Duration::from_secs(u64::MAX / 1_000_000_000 + 1),
    ] {
        let log = Log::new();
        let timer = log.start(Timer::every(interval).timeout(Duration::MAX), 10);
        sleep(ms(1_000)).await;
        assert_eq!((log.take(), timer.stats().completed), (vec![0], 1));
        timer.stop().await;
        let timer = log.start(every(100).first(interval), 0);
        sleep(ms(1_000)).await;
        timer.stop().await;
        assert!(log.take().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn panics_anywhere_are_survived() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "in a destructor");
        }
    }
    for overlap in [Overlap::Cancel, Overlap::Allow(2)] {
        let timer = every(100).overlap(overlap).timeout(ms(500)).start(|tick| {
            assert!(tick.index() != 0, "in the closure");
            let bomb = Bomb(tick.index() == 3);
            async move {
                assert!(tick.index() != 1, "in the tick");
                let _bomb = bomb;
                if tick.index() == 3 {
                    sleep(ms(150)).await;
                }
            }
        });
        sleep(ms(650)).await;
        timer.stop().await;
        let stats = timer.stats();
        assert_eq!(stats.started, 7, "{overlap:?}: {stats:?}");
        assert_eq!(stats.completed + stats.failed + stats.cancelled, 7);
        assert!(stats.completed >= 4, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn due_times_in_a_tick_that_blocks_are_those_of_the_overlap() {
    for (overlap, starts) in [
        (Overlap::Skip, vec![0, 300]),
        (Overlap::Wait, vec![0, 250, 300]),
        (Overlap::Queue(5), vec![0, 250, 250, 300]),
    ] {
        let log = Log::new();
        let note = log.clone();
        let timer = every(100).overlap(overlap).start(move |tick| {
            note.note();
            async move {
                if tick.index() == 0 {
                    // The clock moves on while the tick is polled.
                    let mut block = Box::pin(tokio::time::advance(ms(250)));
                    let _ = block.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                }
            }
        });
        sleep(ms(350)).await;
        timer.stop().await;
        assert_eq!(log.take(), starts, "{overlap:?}");
        assert_eq!(timer.stats().missed, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_never_waits_leaves_others_their_turn() {
    let timer = every(100).overlap(Overlap::Wait).start(|_| async {
        let mut block = Box::pin(tokio::time::advance(ms(250)));
        let _ = block.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    });
    yield_now().await;
    timer.stop().await;
    let stats = timer.stats();
    assert_eq!((stats.cancelled, stats.running), (0, 0));
    assert!(stats.completed > 0);
}

const OVERLAPS: [Overlap; 5] = [
    Overlap::Skip,
    Overlap::Allow(2),
    Overlap::Wait,
    Overlap::Queue(2),
    Overlap::Cancel,
];

/// What a tick does about a request to end.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Ignores,
    CleansUp,
}

/// Waits several times in several ways.
async fn traced(tick: Tick, asked: Asked, _held: Dropped, _kept: Arc<()>) {
    let work = async {
        yield_now().await;
        sleep(ms(1)).await;
        yield_now().await;
        sleep(ms(3)).await;
    };
    match asked {
        Asked::Ignores => work.await,
        Asked::CleansUp => tokio::select! {
            () = tick.cancelled() => {
                yield_now().await;
                sleep(ms(1)).await;
            }
            () = work => {}
        },
    }
}

/// A timer that has run for a while, and what it would leave behind.
struct Traced {
    ran: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    argument: Arc<()>,
    context: String,
}

impl Traced {
    async fn start(overlap: Overlap, grace: u64, asked: Asked, polls: u64) -> (Traced, Timer) {
        let traced = Traced {
            ran: Arc::default(),
            dropped: Arc::default(),
            argument: Arc::default(),
            context: format!("{overlap:?}, {grace} ms, {asked:?}, after {polls} polls"),
        };
        let (ran, dropped, argument) = (
            traced.ran.clone(),
            traced.dropped.clone(),
            traced.argument.clone(),
        );
        let timer = every(2)
            .overlap(overlap)
            .grace(ms(grace))
            .start(move |tick| {
                ran.fetch_add(1, SeqCst);
                self::traced(tick, asked, Dropped(dropped.clone()), argument.clone())
            });
        for poll in 0..polls {
            match poll % 3 {
                0 => sleep(ms(1)).await,
                _ => yield_now().await,
            }
        }
        (traced, timer)
    }

    /// The ticks are dropped, all of the arguments too, and nothing runs afterwards.
    async fn is_gone(&self, how: &str) {
        let context = format!("{how}: {}", self.context);
        let started = self.ran.load(SeqCst);
        assert_eq!(self.dropped.load(SeqCst), started, "{context}");
        assert_eq!(Arc::strong_count(&self.argument), 1, "{context}");
        sleep(ms(50)).await;
        assert_eq!(self.ran.load(SeqCst), started, "{context}");
    }
}

/// A way to end a timer that lets its ticks end, if they all may.
type End = fn(Timer, bool) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

#[test]
fn it_can_end_at_every_poll() {
    let ends: [(&str, End); 4] = [
        ("stop", |timer, _| {
            Box::pin(async move { timer.stop().await })
        }),
        ("finish", |timer, all_may_end| {
            Box::pin(async move { assert!(timer.finish(ms(1000)).await || !all_may_end) })
        }),
        ("finish in vain", |timer, _| {
            Box::pin(async move {
                timer.finish(ms(0)).await;
            })
        }),
        ("drop", |timer, _| {
            Box::pin(async move {
                drop(timer);
                yield_now().await;
            })
        }),
    ];
    for overlap in OVERLAPS {
        for (grace, asked) in [
            (0, Asked::Ignores),
            (0, Asked::CleansUp),
            (3, Asked::Ignores),
            (3, Asked::CleansUp),
        ] {
            // Within the grace a replaced tick is still there, asked to end, when the timer is.
            let all_may_end = overlap != Overlap::Cancel || grace == 0;
            for (name, end) in ends {
                for polls in 0..25 {
                    paused().block_on(async {
                        let (traced, timer) = Traced::start(overlap, grace, asked, polls).await;
                        end(timer, all_may_end).await;
                        traced.is_gone(name).await;
                    });
                }
            }
        }
    }
}

/// Drops `future` after so many polls. True if it ended before.
async fn cut(future: impl Future, mut polls: u64) -> bool {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(false);
        }
        polls -= 1;
        let ended = future.as_mut().poll(cx).is_ready();
        if polls == 0 || ended {
            return Poll::Ready(ended);
        }
        Poll::Pending
    })
    .await
}

/// Once polled, the end of a timer is on its way, whoever still waits for it.
#[test]
fn the_wait_for_its_end_can_end_at_every_poll() {
    let mut ended = 0;
    for (overlap, polls) in OVERLAPS
        .into_iter()
        .flat_map(|o| (0..25).map(move |p| (o, p)))
    {
        for (grace, asked) in [
            (0, Asked::Ignores),
            (3, Asked::Ignores),
            (3, Asked::CleansUp),
        ] {
            for (timeout, cut_after) in [None, Some(0), Some(2), Some(1000)]
                .into_iter()
                .flat_map(|timeout| (1..4).map(move |polls| (timeout, polls)))
            {
                paused().block_on(async {
                    let (traced, timer) = Traced::start(overlap, grace, asked, polls).await;
                    ended += u64::from(match timeout {
                        Some(timeout) => cut(timer.finish(ms(timeout)), cut_after).await,
                        None => cut(timer.stop(), cut_after).await,
                    });
                    // A tick takes 4 ms, after which there may be one that waited for it, and the grace.
                    sleep(ms(12)).await;
                    let how = format!("{timeout:?}, cut after {cut_after}");
                    assert_eq!(timer.stats().running, 0, "{how}: {}", traced.context);
                    traced.is_gone(&how).await;
                });
            }
        }
    }
    assert!(ended > 0, "not all were cut");
}

#[test]
fn a_runtime_that_shuts_down_ends_its_timers() {
    let runtime = paused();
    let argument = Arc::new(());
    let kept = argument.clone();
    let timer = runtime.block_on(async {
        let timer = every(100).start(move |_| {
            let kept = kept.clone();
            async move {
                let _kept = kept;
                std::future::pending::<()>().await;
            }
        });
        sleep(ms(50)).await;
        timer
    });
    drop(runtime);
    assert_eq!(Arc::strong_count(&argument), 1);
    let stats = timer.stats();
    assert_eq!((stats.started, stats.cancelled, stats.running), (1, 1, 0));
    paused().block_on(timer.stop());
}

/// When it is dropped, tells so, and how many ticks the timer that it belongs to says are running.
struct Told(
    &'static str,
    Arc<OnceLock<Timer>>,
    Arc<Mutex<Vec<(&'static str, u64)>>>,
);

impl Drop for Told {
    fn drop(&mut self) {
        let running = self.1.get().unwrap().stats().running;
        self.2.lock().unwrap().push((self.0, running));
    }
}

#[test]
fn a_runtime_that_shuts_down_drops_ticks_then_what_makes_them_then_the_timer_is_over() {
    for overlap in [Overlap::Skip, Overlap::Allow(2)] {
        let runtime = paused();
        let (timer, dropped) = (Arc::default(), Arc::default());
        runtime.block_on(async {
            let makes = Told("what makes them", Arc::clone(&timer), Arc::clone(&dropped));
            let started = every(100).overlap(overlap).start(move |_| {
                let tick = Told("a tick", Arc::clone(&makes.1), Arc::clone(&makes.2));
                async move {
                    let _tick = tick;
                    std::future::pending::<()>().await;
                }
            });
            assert!(timer.set(started).is_ok());
            sleep(ms(50)).await;
        });
        drop(runtime);
        let order = [("a tick", 1), ("what makes them", 1)];
        assert_eq!(*dropped.lock().unwrap(), order, "{overlap:?}");
        let stats = timer.get().unwrap().stats();
        assert_eq!((stats.cancelled, stats.running), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_may_end_its_own_timer() {
    let slot: Arc<Mutex<Option<Arc<Timer>>>> = Arc::default();
    let own = slot.clone();
    let timer = Arc::new(every(100).start(move |tick| {
        let own = own.clone();
        async move {
            if tick.index() == 2 {
                let timer = own.lock().unwrap().clone().unwrap();
                timer.stop().await;
                unreachable!("it waits for its own end");
            }
        }
    }));
    *slot.lock().unwrap() = Some(timer.clone());
    sleep(ms(550)).await;
    let stats = timer.stats();
    assert_eq!((stats.started, stats.completed, stats.cancelled), (3, 2, 1));
    slot.lock().unwrap().take();
}

/// A resource that a heartbeat keeps alive, as long as it is open.
#[actxmgr]
async fn kept_alive(log: Log) -> Log {
    let timer = log.start(every(100).overlap(Overlap::Allow(3)), 250);
    let (log, _) = yield_(log).await;
    timer.stop().await;
    log.take();
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_a_resource_that_ends_with_its_context() {
    let log = Log::new();
    let guard = kept_alive(log.clone()).await;
    sleep(ms(250)).await;
    assert_eq!(guard.take(), [0, 100, 200]);
    guard.exit().await;
    sleep(ms(500)).await;
    assert!(log.take().is_empty());
    drop(kept_alive(log.clone()).await);
    aioxide::drain(ms(1000)).await;
    sleep(ms(500)).await;
    assert!(log.take().is_empty());
}

#[test]
fn no_request_is_lost_that_comes_from_other_threads() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..300 {
            let timer = every(3_600_000).start(async |_| {});
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..20).for_each(|_| timer.trigger()));
                }
                scope.spawn(|| (0..20).for_each(|_| timer.pause()));
            });
            tokio::time::timeout(ms(60_000), timer.stop())
                .await
                .expect("the stop is seen");
        }
    });
}

struct Gone(Arc<tokio::sync::Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn never_short_of_work(_gone: Gone) {
    loop {
        tokio::task::consume_budget().await;
    }
}

#[test]
fn a_tick_that_always_has_something_to_do_is_timed_out() {
    for overlap in [Overlap::Skip, Overlap::Allow(2)] {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let dropped = Arc::new(tokio::sync::Notify::new());
            let timer = every(3_600_000).timeout(ms(20)).overlap(overlap).start({
                let dropped = Arc::clone(&dropped);
                move |_| never_short_of_work(Gone(Arc::clone(&dropped)))
            });
            tokio::time::timeout(ms(60_000), dropped.notified())
                .await
                .expect("the tick is timed out");
            timer.stop().await;
            assert_eq!(timer.stats().failed, 1);
        });
    }
}

struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_is_survived() {
    for overlap in [Overlap::Skip, Overlap::Allow(2)] {
        let timer = every(100)
            .overlap(overlap)
            .start(async |_| -> () { std::panic::panic_any(PanicsAgain) });
        sleep(ms(250)).await;
        timer.stop().await;
        assert_eq!(timer.stats().failed, 3);
    }
}
