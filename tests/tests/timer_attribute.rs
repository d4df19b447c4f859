//! What `#[timer]` makes of functions and methods.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Tick, Timer, actxmgr, timer};
use aioxide_tests::timers::ms;
use tokio::time::{Instant, sleep};

#[derive(Default)]
struct Log(Mutex<Vec<u64>>);

impl Log {
    fn push(&self, tick: &Tick) {
        self.0.lock().unwrap().push(tick.index());
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[timer(100ms)]
async fn heartbeat(tick: Tick, log: Arc<Log>) {
    log.push(&tick);
}

#[tokio::test(start_paused = true)]
async fn a_function_starts_a_timer() {
    let log = Arc::new(Log::default());
    let timer = heartbeat(log.clone());
    sleep(ms(250)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 1, 2]);
    sleep(ms(1000)).await;
    assert!(log.take().is_empty());
    assert_eq!(Arc::strong_count(&log), 1, "the timer's clones are gone");
}

#[timer(100ms)]
async fn without_tick((a, mut b): (u64, u64), _: Arc<()>, mut sum: u64, total: Arc<AtomicU64>) {
    b += a;
    sum += b;
    total.fetch_add(sum, SeqCst);
}

#[tokio::test(start_paused = true)]
async fn each_tick_gets_a_clone_of_each_argument() {
    let total = Arc::new(AtomicU64::new(0));
    let unnamed = Arc::new(());
    let timer = without_tick((1, 2), unnamed.clone(), 10, total.clone());
    sleep(ms(150)).await;
    assert_eq!(Arc::strong_count(&unnamed), 2, "kept for the ticks to come");
    timer.stop().await;
    assert_eq!(total.load(SeqCst), 26);
    assert_eq!(Arc::strong_count(&unnamed), 1);
}

#[timer(1s, overlap = cancel)]
async fn failing(tick: Tick) -> Result<(), Box<dyn std::error::Error>> {
    match tick.index() {
        0 => return Err(Box::new(std::io::Error::other("first"))),
        1 => panic!("second"),
        2 => u8::try_from(tick.index() + 1000).map(drop)?,
        _ => {}
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_are_counted_and_survived() {
    let timer = failing();
    sleep(ms(4500)).await;
    let stats = timer.stats();
    assert_eq!((stats.started, stats.failed, stats.completed), (5, 3, 2));
}

#[derive(Clone)]
struct Probe {
    log: Arc<Log>,
    period: Duration,
}

impl Probe {
    #[timer(self.period)]
    async fn shared(self: Arc<Self>, tick: Tick, extra: u64) {
        let Self { log, .. } = &*self;
        assert_eq!(extra, 7);
        log.push(&tick);
    }

    #[timer(100ms)]
    async fn by_clone(mut self, tick: Tick) {
        self.period += ms(1);
        sleep(ms(10)).await;
        assert!(!format!("{self:p}").is_empty());
        self.log.push(&tick);
    }
}

impl std::fmt::Pointer for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("probe")
    }
}

trait Beat {
    fn beat(self: Arc<Self>) -> Timer;
}

impl Beat for Probe {
    #[timer(100ms)]
    async fn beat(self: Arc<Self>) {
        self.log.0.lock().unwrap().push(9);
    }
}

#[tokio::test(start_paused = true)]
async fn methods() {
    let log = Arc::new(Log::default());
    let probe = Probe {
        log: log.clone(),
        period: ms(50),
    };
    let timer = Arc::new(probe.clone()).shared(7);
    sleep(ms(120)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 1, 2]);

    let timer = probe.clone().by_clone();
    sleep(ms(120)).await;
    timer.stop().await;
    assert_eq!(log.take(), [0, 1]);

    let timer = Arc::new(probe).beat();
    sleep(ms(120)).await;
    timer.stop().await;
    assert_eq!(log.take(), [9, 9]);
}

#[timer(period * 2, first = interval, timeout = period)]
async fn generic<T, const N: usize>(
    log: Arc<Mutex<Vec<T>>>,
    item: [T; N],
    (period, _): (Duration, u8),
) where
    T: Clone + Send + 'static,
{
    let _ = period;
    log.lock().unwrap().extend(item);
}

#[tokio::test(start_paused = true)]
async fn generics_and_an_interval_made_of_the_arguments() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let timer = generic(log.clone(), ["a", "b"], (ms(50), 0));
    sleep(ms(250)).await;
    timer.finish(ms(0)).await;
    assert_eq!(*log.lock().unwrap(), ["a", "b", "a", "b"]);
}

#[timer(1h30m, name = "sweeper")]
async fn named(sum: impl Fn(u64) + Clone + Send + Sync + 'static, tasks: &'static str) {
    sum(tasks.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn impl_arguments_and_a_name() {
    let total = Arc::new(AtomicU64::new(0));
    let sum = total.clone();
    let timer = named(move |n| assert!(sum.fetch_add(n, SeqCst) < 8), "four");
    sleep(Duration::from_secs(5400)).await;
    tokio::task::yield_now().await;
    assert_eq!(total.load(SeqCst), 8);
    assert!(format!("{timer:?}").contains("sweeper"));
}

/// Keeps the connection alive that the caller has for as long as it has it.
#[actxmgr]
async fn kept_alive(log: Arc<Log>) -> Arc<Log> {
    let beat = heartbeat(log.clone());
    yield_(log).await;
    beat.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_a_resource_of_a_context() {
    let log = Arc::new(Log::default());
    let guard = kept_alive(log.clone()).await;
    sleep(ms(150)).await;
    assert_eq!(guard.take(), [0, 1]);
    guard.exit().await;
    assert_eq!(Arc::strong_count(&log), 1);
    sleep(ms(1000)).await;
    assert!(log.take().is_empty());
}

#[timer(period)]
async fn every_period(period: Duration) {
    assert!(!period.is_zero());
}

#[test]
#[should_panic = "the interval of a timer must not be zero"]
fn a_zero_that_is_computed_panics() {
    every_period(ms(1) - ms(1)).detach();
}

/// When ticks started, in ms, and what they were told to have missed.
type Starts = Arc<Mutex<Vec<(u64, u64)>>>;

#[timer(100ms, first = now, overlap = wait, missed = coalesce)]
async fn written_out(tick: Tick, start: Instant, starts: Starts, length: Duration) {
    let at = start.elapsed().as_millis() as u64;
    starts.lock().unwrap().push((at, tick.missed()));
    sleep(length).await;
}

#[tokio::test(start_paused = true)]
async fn options_that_are_written_out_mean_what_they_say() {
    let starts = Starts::default();
    let timer = written_out(Instant::now(), starts.clone(), ms(250));
    sleep(ms(950)).await;
    timer.stop().await;
    let seen = std::mem::take(&mut *starts.lock().unwrap());
    assert_eq!(seen, [(0, 0), (250, 0), (500, 0), (750, 0)]);

    let timer = written_out(Instant::now(), starts.clone(), ms(10));
    sleep(ms(50)).await;
    tokio::time::advance(ms(1000)).await;
    sleep(ms(60)).await;
    timer.stop().await;
    assert_eq!(*starts.lock().unwrap(), [(0, 0), (1050, 9), (1100, 0)]);
}
