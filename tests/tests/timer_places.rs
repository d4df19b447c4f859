//! A tick has ended when the teardowns of what was entered in it have.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use aioxide::{Always, Overlap, Timer, actxmgr, group};
use aioxide_tests::timers::{every, ms};
use tokio::time::{Instant, sleep};

/// Who holds something that one at a time may hold, and the most that ever did.
#[derive(Default)]
struct Holders {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Given back by a teardown that takes a while.
#[actxmgr]
async fn held(holders: Arc<Holders>, teardown: u64) -> Always<()> {
    let now = holders.now.fetch_add(1, SeqCst) + 1;
    holders.most.fetch_max(now, SeqCst);
    yield_().await;
    sleep(ms(teardown)).await;
    holders.now.fetch_sub(1, SeqCst);
}

fn holding(overlap: Overlap, holders: &Arc<Holders>) -> Timer {
    let holders = holders.clone();
    every(100).overlap(overlap).start(move |_| {
        let holders = holders.clone();
        async move {
            let _held = held(holders, 30).await;
            sleep(ms(10_000)).await;
        }
    })
}

const OVERLAPS: [Overlap; 5] = [
    Overlap::Skip,
    Overlap::Allow(3),
    Overlap::Wait,
    Overlap::Queue(2),
    Overlap::Cancel,
];

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_teardowns_of_ticks() {
    for overlap in OVERLAPS {
        let holders = Arc::<Holders>::default();
        let timer = holding(overlap, &holders);
        sleep(ms(60)).await;
        let stop = Instant::now();
        timer.stop().await;
        assert_eq!(holders.now.load(SeqCst), 0, "{overlap:?}");
        assert_eq!(stop.elapsed(), ms(30), "{overlap:?}");
        assert_eq!((timer.stats().running, timer.stats().cancelled), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_finish_in_vain_waits_for_them_too() {
    for overlap in OVERLAPS {
        let holders = Arc::<Holders>::default();
        let timer = holding(overlap, &holders);
        sleep(ms(60)).await;
        assert!(!timer.finish(ms(20)).await);
        assert_eq!(holders.now.load(SeqCst), 0, "{overlap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_replaced_is_torn_down_before_its_successor_starts() {
    let holders = Arc::<Holders>::default();
    let timer = holding(Overlap::Cancel, &holders);
    sleep(ms(1050)).await;
    let stats = timer.stats();
    timer.stop().await;
    assert_eq!(holders.most.load(SeqCst), 1);
    assert_eq!((stats.started, stats.cancelled), (11, 10));
}

#[tokio::test(start_paused = true)]
async fn the_next_tick_starts_when_the_teardowns_of_the_last_are_done() {
    let holders = Arc::<Holders>::default();
    let (inner, starts) = (holders.clone(), Arc::<Mutex<Vec<u128>>>::default());
    let (start, log) = (Instant::now(), starts.clone());
    let timer = every(100).overlap(Overlap::Wait).start(move |_| {
        log.lock().unwrap().push(start.elapsed().as_millis());
        let holders = inner.clone();
        async move {
            let _held = held(holders, 150).await;
        }
    });
    sleep(ms(320)).await;
    timer.stop().await;
    assert_eq!(holders.most.load(SeqCst), 1);
    assert_eq!(*starts.lock().unwrap(), [0, 150, 300]);
    assert_eq!(timer.stats().completed, 3, "they had when the stop came");
}

#[tokio::test(start_paused = true)]
async fn a_slow_teardown_holds_up_its_own_tick_alone() {
    let timer = every(100)
        .overlap(Overlap::Allow(4))
        .timeout(ms(80))
        .start(|tick| async move {
            let holders = Arc::<Holders>::default();
            let length = if tick.index() == 0 { 5_000 } else { 0 };
            // An exit that waited for another tick's teardown would run into the timeout.
            drop(held(holders.clone(), length).await);
            let own = held(holders, 10).await;
            own.exit().await;
        });
    sleep(ms(1050)).await;
    let stats = timer.stats();
    assert_eq!(
        (stats.started, stats.completed, stats.running),
        (11, 10, 1),
        "{stats:?}"
    );
    assert_eq!((stats.failed, stats.skipped), (0, 0));
    let stop = Instant::now();
    timer.stop().await;
    assert_eq!(stop.elapsed(), ms(5_000 - 1_050));
    assert_eq!(timer.stats().completed, 11, "its function had returned");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_fails_or_panics_or_takes_too_long_is_torn_down_as_well() {
    for overlap in [Overlap::Skip, Overlap::Allow(2)] {
        let holders = Arc::<Holders>::default();
        let inner = holders.clone();
        let timer = every(100)
            .overlap(overlap)
            .timeout(ms(20))
            .start(move |tick| {
                let holders = inner.clone();
                async move {
                    let _held = held(holders, 30).await;
                    match tick.index() {
                        0 => return Err("at once"),
                        1 => panic!("in the tick"),
                        _ => sleep(ms(50)).await,
                    }
                    Ok(())
                }
            });
        sleep(ms(29)).await;
        assert_eq!((timer.stats().failed, holders.now.load(SeqCst)), (0, 1));
        sleep(ms(226)).await;
        // The third was dropped at 220.
        timer.stop().await;
        assert_eq!((timer.stats().failed, timer.stats().started), (3, 3));
        assert_eq!(holders.now.load(SeqCst), 0);
        assert_eq!(holders.most.load(SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_around_a_timer_waits_for_what_is_in_its_ticks() {
    let pool = Arc::<Holders>::default();
    let connection = Arc::<Holders>::default();
    let order = Arc::<Mutex<Vec<&str>>>::default();

    #[actxmgr]
    async fn noted(
        name: &'static str,
        order: Arc<Mutex<Vec<&'static str>>>,
        teardown: u64,
    ) -> Always<()> {
        yield_().await;
        sleep(ms(teardown)).await;
        order.lock().unwrap().push(name);
    }

    let outer = noted("pool", order.clone(), 0).await;
    let inner = order.clone();
    let timer = every(100).start(move |_| {
        let order = inner.clone();
        async move {
            let _connection = noted("connection", order, 50).await;
            sleep(ms(10_000)).await;
        }
    });
    sleep(ms(10)).await;
    drop(timer);
    sleep(ms(1)).await;
    drop(outer);
    aioxide::drain(ms(1000)).await;
    assert_eq!(*order.lock().unwrap(), ["connection", "pool"]);
    drop((pool, connection));
}

#[tokio::test(start_paused = true)]
async fn what_ticks_enter_and_leave_costs_them_no_end() {
    let holders = Arc::<Holders>::default();
    let inner = holders.clone();
    let timer = every(10).start(move |_| {
        let holders = inner.clone();
        async move {
            let both = group([held(holders.clone(), 1), held(holders, 1)]);
            let _entered = both.await;
            sleep(ms(1)).await;
        }
    });
    sleep(ms(1000)).await;
    timer.stop().await;
    assert_eq!(holders.now.load(SeqCst), 0);
    assert!(timer.stats().completed >= 99, "{:?}", timer.stats());
}
