//! Timers that go by a lease, under a paused clock: what their store does to them.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};
use tracing_subscriber::fmt::MakeWriter;

use super::lease::{Held, Lease, LeaseError, MemoryLease, Owner, Progress, Token};
use super::{Delivery, Missed, Tick, Timer, TimerBuilder};

const INTERVAL: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_millis(20);

/// A store that answers late to what is recorded.
struct Late {
    lease: MemoryLease,
    /// From this due time on nothing is written.
    lost_from: SystemTime,
}

impl Lease for Late {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        self.lease.hold(name, owner, ttl).await
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        let lost = due >= self.lost_from;
        if !lost {
            self.lease.record(name, token, due, at).await?;
        }
        sleep(ANSWER).await;
        match lost {
            true => Err(LeaseError::store("record", "it is lost")),
            false => Ok(()),
        }
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        self.lease.release(name, token).await
    }

    async fn changed(&self, name: &str, ttl: Duration) {
        self.lease.changed(name, ttl).await;
    }
}

/// When the tests begin, on the wall clock.
fn begin() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// A wall clock that goes with tokio's.
fn wall() -> impl Fn() -> SystemTime + Clone {
    let start = Instant::now();
    move || begin() + start.elapsed()
}

/// The due times whose ticks were started, from the beginning on.
type Log = Arc<Mutex<Vec<Duration>>>;

fn note(log: &Log, tick: &Tick) {
    let due = tick.scheduled_at().duration_since(begin()).unwrap();
    log.lock().unwrap().push(due);
}

fn once(
    lease: impl Lease,
    wall: &(impl Fn() -> SystemTime + Clone + Send + Sync + 'static),
) -> TimerBuilder {
    Timer::every(INTERVAL)
        .single_by(lease)
        .delivery(Delivery::AtMostOnce)
        .clock(wall.clone())
}

fn each_once(log: &[Duration]) -> bool {
    let mut dues = (0..).map(|due| due * INTERVAL);
    log.len() >= 5 && log.iter().all(|&due| Some(due) == dues.next())
}

/// Stops a timer while its store is told of the second start, and has another one go on.
async fn stopped_in_a_record(lost_from: SystemTime) -> (Vec<Duration>, Timer) {
    let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
    let late = Late {
        lease: lease.clone(),
        lost_from,
    };
    let noted = log.clone();
    let first = once(late, &wall).start(move |tick| {
        note(&noted, &tick);
        sleep(Duration::from_millis(10))
    });
    sleep(INTERVAL + ANSWER / 2).await;
    assert_eq!(first.stats().started, 1);
    first.stop().await;
    let noted = log.clone();
    let second = once(lease, &wall).missed(Missed::Burst(20));
    let second = second.start(move |tick| {
        note(&noted, &tick);
        async {}
    });
    sleep(3 * INTERVAL).await;
    second.stop().await;
    let log = log.lock().unwrap().clone();
    (log, first)
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_start_is_recorded_drops_no_due_time() {
    let (log, first) = stopped_in_a_record(begin() + Duration::from_secs(60)).await;
    assert!(each_once(&log), "{log:?}");
    let stats = first.stats();
    assert_eq!((stats.started, stats.completed, stats.cancelled), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_could_not_be_recorded_is_for_the_next_holder() {
    let (log, first) = stopped_in_a_record(begin() + INTERVAL).await;
    assert!(each_once(&log), "{log:?}");
    assert_eq!((first.stats().started, first.stats().completed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_started_after_a_stop_is_asked_to_end() {
    let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
    let late = Late {
        lease: lease.clone(),
        lost_from: begin() + Duration::from_secs(60),
    };
    let told = log.clone();
    let timer = once(late, &wall).grace(INTERVAL).start(move |tick| {
        let told = told.clone();
        async move {
            if tick.index() == 1 {
                tick.cancelled().await;
                note(&told, &tick);
            }
        }
    });
    sleep(INTERVAL + ANSWER / 2).await;
    assert_eq!(timer.stats().started, 1);
    let stopped = Instant::now();
    timer.stop().await;
    assert_eq!(*log.lock().unwrap(), [INTERVAL]);
    assert!(
        stopped.elapsed() < ANSWER,
        "it was told before its grace was over"
    );
    assert_eq!(timer.stats().started, 2);
}

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_due_time_that_was_recorded_by_a_clock_ahead_is_told() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let wall = wall();
    for (ahead, warned) in [(INTERVAL, false), (Duration::from_secs(3600), true)] {
        let (lease, other) = (MemoryLease::new(), Owner::unique());
        let held = lease
            .hold("timer", &other, INTERVAL)
            .await
            .unwrap()
            .unwrap();
        let due = wall() + ahead;
        lease
            .record("timer", held.token, due, Progress::Done)
            .await
            .unwrap();
        lease.release("timer", held.token).await.unwrap();
        let timer = once(lease, &wall).start(|_| async {});
        sleep(INTERVAL / 2).await;
        timer.stop().await;
        let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            logged.contains("is ahead of this host's clock"),
            warned,
            "{logged}"
        );
    }
}
