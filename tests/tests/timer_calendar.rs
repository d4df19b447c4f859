//! Timers by the calendar, with a wall clock that the tests move.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aioxide::{Missed, Overlap, Tick, Timer, TimerBuilder, timer};
use aioxide_tests::timers::ms;
use tokio::time::{Instant, sleep};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// 2026-11-26 12:00 in UTC, a Thursday.
const NOON: u64 = 1_795_694_400;

/// A wall clock that goes with tokio's, from a second after noon, and can be put forward and back.
#[derive(Clone)]
struct Wall {
    start: Instant,
    put: Arc<AtomicI64>,
}

impl Wall {
    fn new() -> Wall {
        Wall {
            start: Instant::now(),
            put: Arc::default(),
        }
    }

    fn now(&self) -> SystemTime {
        let at = NOON as i64 + 1 + self.put.load(SeqCst);
        UNIX_EPOCH + Duration::from_secs(at as u64) + self.start.elapsed()
    }

    fn put(&self, seconds: i64) {
        self.put.fetch_add(seconds, SeqCst);
    }
}

/// Which ticks started: due when, in seconds since noon, and how many were missed before.
type Log = Arc<Mutex<Vec<(i64, u64)>>>;

fn log(tick: &Tick, log: &Log) {
    let due = tick.scheduled_at().duration_since(UNIX_EPOCH).unwrap();
    let due = due.as_secs() as i64 - NOON as i64;
    log.lock().unwrap().push((due, tick.missed()));
}

fn start(timer: TimerBuilder, wall: &Wall, seen: &Log) -> Timer {
    let (wall, seen) = (wall.clone(), seen.clone());
    timer.clock(move || wall.now()).start(move |tick| {
        log(&tick, &seen);
        async {}
    })
}

fn every_hour() -> TimerBuilder {
    Timer::calendar("0 * * * *", "UTC").unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * HOUR)
}

#[tokio::test(start_paused = true)]
async fn ticks_are_due_by_the_wall_clock() {
    let (wall, seen) = (Wall::new(), Log::default());
    let started = Instant::now();
    let timer = start(
        Timer::calendar("30 */6 * * *", "Asia/Seoul").unwrap(),
        &wall,
        &seen,
    );
    // 21:00 in Seoul.
    assert_eq!(
        timer.next_due(),
        Some(started + Duration::from_secs(3 * HOUR + 30 * MINUTE - 1))
    );
    sleep(hours(24)).await;
    timer.stop().await;
    let due: Vec<i64> = seen.lock().unwrap().iter().map(|(due, _)| *due).collect();
    let half = 30 * MINUTE as i64;
    assert_eq!(due, [3, 9, 15, 21].map(|hour| hour * HOUR as i64 + half));
    assert!(timer.set_interval(ms(100)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_tick_tells_its_due_time_with_the_offset() {
    let wall = Wall::new();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let timer = Timer::calendar("0 3 * * *", "Asia/Seoul")
        .unwrap()
        .clock(move || wall.now())
        .start(move |tick| {
            let told = (
                tick.scheduled_local(),
                tick.scheduled() == Instant::now(),
                tick.interval(),
            );
            sender.send(told).unwrap();
            async {}
        });
    let expected = "2026-11-27T03:00:00+09:00[Asia/Seoul]".to_owned();
    assert_eq!(told.recv().await, Some((expected, true, hours(24))));
    timer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_forward_misses_what_it_passes_over() {
    for (missed, expected) in [
        (
            Missed::Coalesce,
            vec![(3600, 0), (5 * 3600, 3), (6 * 3600, 0)],
        ),
        (Missed::Skip, vec![(3600, 0), (6 * 3600, 4)]),
        (
            Missed::Burst(2),
            vec![(3600, 0), (4 * 3600, 2), (5 * 3600, 0), (6 * 3600, 0)],
        ),
    ] {
        let (wall, seen) = (Wall::new(), Log::default());
        let timer = start(every_hour().missed(missed), &wall, &seen);
        sleep(Duration::from_secs(90 * MINUTE)).await;
        wall.put(4 * HOUR as i64); // 17:30
        sleep(Duration::from_secs(61)).await;
        assert!(
            seen.lock().unwrap().len() >= expected.len() - 1,
            "within a minute"
        );
        sleep(Duration::from_secs(40 * MINUTE)).await;
        timer.stop().await;
        assert_eq!(*seen.lock().unwrap(), expected, "{missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_a_suspended_machine_slept_through_is_missed_too() {
    for (missed, expected) in [(Missed::Coalesce, vec![(3600, 0)]), (Missed::Skip, vec![])] {
        let (wall, seen) = (Wall::new(), Log::default());
        let timer = start(every_hour().missed(missed), &wall, &seen);
        sleep(Duration::from_secs(MINUTE)).await;
        // tokio's clock doesn't count it.
        wall.put(70 * MINUTE as i64);
        sleep(Duration::from_secs(MINUTE)).await;
        assert_eq!(*seen.lock().unwrap(), expected);
        timer.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_back_starts_no_due_time_twice() {
    let (wall, seen) = (Wall::new(), Log::default());
    let timer = start(every_hour(), &wall, &seen);
    sleep(Duration::from_secs(2 * HOUR + 90)).await;
    wall.put(-(91 + 30 * MINUTE as i64)); // from 14:01:31 to 13:30
    sleep(hours(2)).await;
    timer.stop().await;
    assert_eq!(*seen.lock().unwrap(), [(3600, 0), (7200, 0), (3 * 3600, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_that_is_corrected_silences_nothing() {
    let (wall, seen) = (Wall::new(), Log::default());
    let timer = start(every_hour(), &wall, &seen);
    sleep(Duration::from_secs(90 * MINUTE)).await;
    wall.put(3650 * DAY as i64); // ten years ahead
    sleep(Duration::from_secs(HOUR)).await;
    wall.put(-3650 * DAY as i64);
    sleep(hours(2)).await;
    timer.stop().await;
    let due: Vec<i64> = seen.lock().unwrap().iter().map(|(due, _)| *due).collect();
    let ahead = 3650 * DAY as i64;
    assert_eq!(due, [3600, ahead + 3600, ahead + 7200, 3 * 3600, 4 * 3600]);
}

#[tokio::test(start_paused = true)]
async fn overlap_and_jitter_are_as_with_an_interval() {
    let wall = Wall::new();
    let timer = Timer::calendar("*/10 * * * * *", "UTC")
        .unwrap()
        .overlap(Overlap::Allow(2))
        .jitter(ms(4000))
        .clock(move || wall.now())
        .start(|tick| async move {
            assert!(tick.lateness() < ms(4001));
            sleep(ms(25_000)).await;
        });
    sleep(Duration::from_secs(600)).await;
    timer.stop().await;
    let stats = timer.stats();
    assert!((38..=42).contains(&stats.started), "{stats:?}");
    assert!((18..=22).contains(&stats.skipped), "{stats:?}");
    assert_eq!((stats.missed, stats.failed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_host_has_its_part_of_the_jitter() {
    let wall = Wall::new();
    let late: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let seen = late.clone();
    let timer = every_hour()
        .jitter(Duration::from_secs(600))
        .spread()
        .clock(move || wall.now())
        .start(move |tick| {
            seen.lock().unwrap().push(tick.lateness());
            async {}
        });
    sleep(hours(6)).await;
    timer.stop().await;
    let late = late.lock().unwrap();
    assert!(
        late.len() >= 5 && late[0] < Duration::from_secs(601),
        "{late:?}"
    );
    assert!(
        late.windows(2)
            .all(|pair| pair[0].abs_diff(pair[1]) < ms(2)),
        "{late:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_a_calendar_makes_nothing_up() {
    let (wall, seen) = (Wall::new(), Log::default());
    let timer = start(every_hour(), &wall, &seen);
    sleep(Duration::from_secs(90 * MINUTE)).await;
    timer.pause();
    sleep(hours(3)).await;
    assert_eq!(timer.next_due(), None);
    timer.resume();
    sleep(hours(1)).await;
    timer.stop().await;
    assert_eq!(*seen.lock().unwrap(), [(3600, 0), (5 * 3600, 0)]);
    assert_eq!((timer.stats().missed, timer.stats().skipped), (0, 0));
}

#[timer(cron = "* * * * * *", zone = "local", overlap = wait, jitter = 10ms, spread = host)]
async fn by_attribute(tick: Tick, seconds: Arc<Mutex<Vec<SystemTime>>>) {
    seconds.lock().unwrap().push(tick.scheduled_at());
}

#[tokio::test]
async fn the_attribute_goes_by_the_systems_clock() {
    let seconds = Arc::default();
    let timer = by_attribute(Arc::clone(&seconds));
    while seconds.lock().unwrap().len() < 2 {
        sleep(ms(20)).await;
    }
    timer.stop().await;
    let seconds = seconds.lock().unwrap();
    for pair in seconds.windows(2) {
        assert_eq!(pair[1].duration_since(pair[0]).unwrap().subsec_nanos(), 0);
    }
    assert!(seconds[0].elapsed().unwrap() < Duration::from_secs(30));
}

#[test]
fn what_is_wrong_is_told_at_run_time_too() {
    let error = Timer::calendar("0 25 * * *", "UTC").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the hour can't be `25`; allowed are 0 to 23"),
        "{error}"
    );
    let error = Timer::calendar("0 3 * * *", "Seoul").unwrap_err();
    assert!(
        error.to_string().contains("did you mean `Asia/Seoul`?"),
        "{error}"
    );
}
