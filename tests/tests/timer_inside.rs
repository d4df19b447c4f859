//! What a tick may do to its own timer, and what a timer tells: when it is due, and which ticks fail.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aioxide::{Overlap, Tick, TickError, Timer, timer};
use aioxide_tests::timers::{every, ms};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

type Slot = Arc<OnceLock<Timer>>;

fn slot() -> Slot {
    Arc::default()
}

fn put(slot: &Slot, timer: Timer) -> &Timer {
    assert!(slot.set(timer).is_ok());
    slot.get().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_finish_in_the_only_tick_waits_for_nothing() {
    for overlap in [Overlap::Skip, Overlap::Allow(3), Overlap::Queue(2)] {
        let (sender, mut told) = mpsc::unbounded_channel();
        let own = slot();
        let inner = own.clone();
        let timer = every(100).overlap(overlap).start(move |tick| {
            let (own, sender) = (inner.clone(), sender.clone());
            async move {
                if tick.index() == 2 {
                    let start = Instant::now();
                    let all = own.get().unwrap().finish(ms(10_000)).await;
                    sender.send((all, start.elapsed())).unwrap();
                    sleep(ms(70)).await;
                }
            }
        });
        let timer = put(&own, timer);
        let told = timeout(ms(1000), told.recv()).await.expect("in time");
        assert_eq!(told, Some((true, Duration::ZERO)), "{overlap:?}");
        assert_eq!(timer.stats().running, 1);
        timer.finish(ms(1000)).await;
        let stats = timer.stats();
        assert_eq!((stats.started, stats.completed), (3, 3), "{overlap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_finish_in_a_tick_waits_for_the_others() {
    let (sender, mut told) = mpsc::unbounded_channel();
    let own = slot();
    let inner = own.clone();
    let timer = every(100).overlap(Overlap::Allow(8)).start(move |tick| {
        let (own, sender) = (inner.clone(), sender.clone());
        async move {
            match tick.index() {
                3 => {
                    let all = own.get().unwrap().finish(ms(10_000)).await;
                    sender
                        .send((all, own.get().unwrap().stats().running))
                        .unwrap();
                }
                _ => sleep(ms(450)).await,
            }
        }
    });
    let timer = put(&own, timer);
    let start = Instant::now();
    assert_eq!(told.recv().await, Some((true, 1)));
    assert_eq!(start.elapsed(), ms(650), "when that of 200 ms has ended");
    timer.stop().await;
    assert_eq!(timer.stats().completed, 4);
}

#[tokio::test(start_paused = true)]
async fn ticks_that_finish_together_dont_wait_for_each_other() {
    let (sender, mut told) = mpsc::unbounded_channel();
    let own = slot();
    let inner = own.clone();
    let timer = every(100).overlap(Overlap::Allow(8)).start(move |tick| {
        let (own, sender) = (inner.clone(), sender.clone());
        async move {
            // The first ones wait until the last is there.
            sleep(ms(300 - 100 * tick.index())).await;
            let own = own.get().unwrap();
            // Twice is no more than once.
            let (all, again) = tokio::join!(own.finish(ms(10_000)), own.finish(ms(10_000)));
            sender.send(all && again).unwrap();
        }
    });
    let timer = put(&own, timer);
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(told.recv().await, Some(true));
    }
    assert_eq!(start.elapsed(), ms(300));
    timer.stop().await;
    assert!(timer.stats().completed >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_finish_in_a_tick_ends_that_tick_too_at_its_timeout() {
    let own = slot();
    let inner = own.clone();
    let timer = every(100).start(move |_| {
        let own = inner.clone();
        async move {
            own.get().unwrap().finish(ms(50)).await;
            sleep(ms(10_000)).await;
        }
    });
    let timer = put(&own, timer);
    let start = Instant::now();
    sleep(ms(1)).await;
    assert!(!timer.finish(ms(1000)).await, "it was cancelled");
    assert_eq!(start.elapsed(), ms(50));
}

#[tokio::test(start_paused = true)]
async fn a_tick_stops_its_timer_and_runs_to_its_end() {
    for overlap in [
        Overlap::Skip,
        Overlap::Allow(4),
        Overlap::Cancel,
        Overlap::Wait,
    ] {
        let timer = every(100).overlap(overlap).start(|tick| async move {
            if tick.index() == 2 {
                tick.stop_timer();
                sleep(ms(250)).await;
            }
        });
        sleep(ms(2000)).await;
        let stats = timer.stats();
        assert_eq!(
            (stats.started, stats.completed, stats.running),
            (3, 3, 0),
            "{overlap:?}"
        );
        assert_eq!(timer.next_due(), None);
        timeout(ms(1), timer.stop()).await.expect("it is over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_tells_when_it_is_due_next() {
    let start = Instant::now();
    let due = |timer: &Timer| timer.next_due().map(|due| (due - start).as_millis());
    let timer = every(100).first(ms(30)).start(|_| sleep(ms(250)));
    assert_eq!(due(&timer), Some(30), "before it has run");
    sleep(ms(31)).await;
    assert_eq!(due(&timer), Some(130), "also while one runs");
    timer.pause();
    sleep(ms(1)).await;
    assert_eq!(due(&timer), None);
    timer.resume();
    sleep(ms(1)).await;
    assert_eq!(due(&timer), Some(130));
    timer.stop().await;
    assert_eq!(due(&timer), None);

    let timer = Timer::after(ms(100)).start(|_| sleep(ms(50)));
    let start = Instant::now();
    let due = |timer: &Timer| timer.next_due().map(|due| (due - start).as_millis());
    sleep(ms(20)).await;
    assert_eq!(
        due(&timer),
        None,
        "the delay begins with the end of the tick"
    );
    sleep(ms(60)).await;
    assert_eq!(due(&timer), Some(150));
    timer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_begins_a_new_grid() {
    let start = Instant::now();
    let seen: Arc<Mutex<Vec<(u64, u128)>>> = Arc::default();
    let log = seen.clone();
    let timer = every(100).start(move |tick| {
        let at = (tick.scheduled() - start).as_millis();
        log.lock().unwrap().push((tick.index(), at));
        async {}
    });
    sleep(ms(130)).await;
    timer.reset();
    sleep(ms(210)).await;
    timer.pause();
    timer.reset();
    sleep(ms(30)).await;
    timer.resume();
    sleep(ms(100)).await;
    timer.stop().await;
    // Reset at 130, and at 340 in a pause.
    assert_eq!(
        *seen.lock().unwrap(),
        [(0, 0), (1, 100), (2, 230), (3, 330), (4, 440)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_reset_at_a_due_time_comes_first_and_one_after_it_drops_none() {
    let timer = every(100).start(|_| async {});
    sleep(ms(100)).await;
    // Asked for at 100, before the timer's task has run then.
    timer.reset();
    sleep(ms(50)).await;
    assert_eq!(timer.stats().started, 1);
    // The runtime stalls over 200 ms: that due time has passed.
    tokio::time::advance(ms(60)).await;
    timer.reset();
    sleep(ms(1)).await;
    assert_eq!(timer.stats().started, 2);
    timer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_begins_a_delay_anew() {
    let timer = Timer::after(ms(100)).start(|_| sleep(ms(50)));
    sleep(ms(20)).await;
    timer.reset(); // while a tick runs, which ends at 50
    sleep(ms(60)).await;
    timer.reset(); // at 80
    sleep(ms(90)).await;
    assert_eq!(timer.stats().started, 1, "not at 150");
    sleep(ms(20)).await;
    assert_eq!(timer.stats().started, 2, "but at 180");
    timer.stop().await;
}

#[derive(Debug)]
struct Outer;

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As anyhow's and eyre's.
        f.write_str(if f.alternate() {
            "outer: y: root"
        } else {
            "outer"
        })
    }
}

static TOLD: Mutex<Vec<(u64, TickError)>> = Mutex::new(Vec::new());

fn told(tick: &Tick, error: &TickError) {
    TOLD.lock().unwrap().push((tick.index(), error.clone()));
    assert!(tick.index() != 1, "a hook that panics does no harm");
}

#[timer(100ms, timeout = 50ms, on_error = told)]
async fn failing(tick: Tick) -> Result<(), Outer> {
    match tick.index() {
        0 => Err(Outer),
        1 => panic!("at one"),
        2 => {
            sleep(ms(60)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_told_of_every_failure() {
    let timer = failing();
    sleep(ms(450)).await;
    timer.stop().await;
    let expected = [
        (0, TickError::Failed("outer: y: root".to_owned())),
        (1, TickError::Panicked("at one".to_owned())),
        (2, TickError::TimedOut(ms(50))),
    ];
    assert_eq!(*TOLD.lock().unwrap(), expected);
    let texts = expected.map(|(_, error)| error.to_string());
    assert_eq!(
        texts,
        ["outer: y: root", "panicked: at one", "timed out after 50ms"]
    );
    assert_eq!((timer.stats().failed, timer.stats().completed), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_told_of_ticks_that_run_beside_each_other() {
    let told: Arc<Mutex<Vec<u64>>> = Arc::default();
    let log = told.clone();
    let timer = every(100)
        .overlap(Overlap::Allow(4))
        .on_error(move |tick, _| log.lock().unwrap().push(tick.index()))
        .start(|tick| async move {
            sleep(ms(250 - 80 * tick.index().min(2))).await;
            Err("none")
        });
    sleep(ms(310)).await;
    timer.stop().await;
    assert_eq!(*told.lock().unwrap(), [0, 1, 2]);
}

/// A due tick that the request overtakes is not started, whatever was asked before it.
#[tokio::test(start_paused = true)]
async fn a_trigger_that_is_followed_by_a_pause_or_an_end_starts_nothing() {
    type Follow = fn(&Timer);
    let follows: [Follow; 2] = [Timer::pause, |timer| {
        let mut finish = Box::pin(timer.finish(ms(100)));
        let noop = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(finish.as_mut().poll(noop).is_pending());
    }];
    for follow in follows {
        let timer = every(1000).first(ms(1000)).start(|_| async {});
        sleep(ms(10)).await;
        timer.trigger();
        follow(&timer);
        sleep(ms(100)).await;
        assert_eq!(timer.stats().started, 0);
        timer.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn timers_that_start_together_dont_share_their_jitter() {
    let started: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let timers: Vec<Timer> = (0..20)
        .map(|_| {
            let log = started.clone();
            every(10_000).jitter(ms(9_000)).start(move |tick| {
                log.lock().unwrap().push(tick.lateness());
                async {}
            })
        })
        .collect();
    sleep(ms(9_500)).await;
    let mut shifts = started.lock().unwrap().clone();
    shifts.sort();
    shifts.dedup();
    assert!(shifts.len() > 15, "{shifts:?}");
    for timer in timers {
        timer.stop().await;
    }
}
