//! Timers of which one runs in a cluster, by a lease in memory, under a paused clock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aioxide::lease::{BoxLease, Held, Lease, LeaseError, MemoryLease, Owner, Progress, Token};
use aioxide::{Always, Delivery, Missed, Overlap, Tick, Timer, TimerBuilder, actxmgr, timer};
use aioxide_tests::timers::{every, ms};
use tokio::time::{Instant, sleep};

/// A store that can be cut off from one of its users.
#[derive(Clone)]
struct Cut {
    lease: MemoryLease,
    cut: Arc<AtomicBool>,
    /// While it is cut off nothing is answered, not even an error.
    silent: bool,
}

impl Cut {
    fn of(lease: &MemoryLease) -> Cut {
        Cut {
            lease: lease.clone(),
            cut: Arc::default(),
            silent: false,
        }
    }

    async fn check(&self) -> Result<(), LeaseError> {
        match self.cut.load(SeqCst) {
            true if self.silent => std::future::pending().await,
            true => Err(LeaseError::store("reach the store", "it is cut off")),
            false => Ok(()),
        }
    }
}

impl Lease for Cut {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        self.check().await?;
        self.lease.hold(name, owner, ttl).await
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        self.check().await?;
        self.lease.record(name, token, due, at).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        self.check().await?;
        self.lease.release(name, token).await
    }

    async fn changed(&self, name: &str, ttl: Duration) {
        self.lease.changed(name, ttl).await;
    }
}

/// A wall clock that goes with tokio's.
fn wall() -> impl Fn() -> SystemTime + Clone {
    let start = Instant::now();
    move || UNIX_EPOCH + Duration::from_secs(1_000_000) + start.elapsed()
}

/// Who started which due time, in ms on the wall clock, with which token.
type Log = Arc<Mutex<Vec<(char, u64, u64)>>>;

fn started(log: &Log, who: char, tick: &Tick) {
    let due = tick
        .scheduled_at()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    let token = tick.token().expect("under a lease").get();
    log.lock().unwrap().push((who, due - 1_000_000_000, token));
}

fn start(timer: TimerBuilder, who: char, log: &Log, length: u64) -> Timer {
    let log = log.clone();
    timer.start(move |tick| {
        started(&log, who, &tick);
        sleep(ms(length))
    })
}

#[tokio::test(start_paused = true)]
async fn one_runs_and_a_clean_stop_hands_over() {
    let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
    let timer = || every(100).single_by(lease.clone()).clock(wall.clone());
    let first = start(timer(), 'a', &log, 10);
    sleep(ms(5)).await;
    let second = start(timer(), 'b', &log, 10);
    sleep(ms(345)).await; // between two ticks
    assert_eq!(second.stats().started, 0);
    assert_eq!(second.next_due(), None, "it isn't its turn");
    assert!(first.next_due().is_some());
    first.stop().await;
    sleep(ms(300)).await;
    second.stop().await;
    let log = log.lock().unwrap();
    let dues: Vec<u64> = log.iter().map(|(_, due, _)| *due).collect();
    let expected: Vec<u64> = (0..=6).map(|k| k * 100).collect();
    assert_eq!(dues, expected, "neither twice nor dropped: {log:?}");
    assert!(
        log.iter()
            .all(|&(who, due, token)| (who, token) == if due <= 300 { ('a', 1) } else { ('b', 2) })
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_another_goes_on_within_the_ttl() {
    let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
    let timer = || {
        every(1000)
            .single_by(lease.clone())
            .ttl(ms(3000))
            .clock(wall.clone())
    };
    let cut = Cut::of(&lease);
    let first = start(
        every(1000)
            .single_by(cut.clone())
            .ttl(ms(3000))
            .clock(wall.clone())
            .missed(Missed::Burst(10)),
        'a',
        &log,
        200,
    );
    sleep(ms(1100)).await;
    cut.cut.store(true, SeqCst); // in the tick of 1000
    let second = start(timer().missed(Missed::Burst(10)), 'b', &log, 200);
    sleep(ms(6000)).await;
    second.stop().await;
    first.stop().await;
    let log = log.lock().unwrap();
    // That of 1000 ended, but nobody could be told; it runs again, and so does what was due since.
    let by_b: Vec<u64> = log
        .iter()
        .filter(|(who, ..)| *who == 'b')
        .map(|(_, due, _)| *due)
        .collect();
    assert_eq!(by_b.first(), Some(&1000), "{log:?}");
    assert!(by_b.windows(2).all(|pair| pair[1] > pair[0]), "{by_b:?}");
    // None of the first after it had to give up.
    let mut last_of_a = 0;
    for (who, due, _) in log.iter() {
        if *who == 'a' {
            last_of_a = *due;
        }
    }
    assert!(last_of_a <= 4000, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cant_renew_drops_its_ticks_before_the_lease_is_over() {
    #[derive(Default)]
    struct Running(AtomicUsize, AtomicUsize);
    #[actxmgr]
    async fn running(running: Arc<Running>) -> Always<()> {
        let now = running.0.fetch_add(1, SeqCst) + 1;
        running.1.fetch_max(now, SeqCst);
        yield_().await;
        running.0.fetch_sub(1, SeqCst);
    }

    for (overlap, silent) in [
        (Overlap::Skip, false),
        (Overlap::Skip, true),
        (Overlap::Allow(4), false),
    ] {
        let (store, wall) = (MemoryLease::new(), wall());
        let both = Arc::<Running>::default();
        let asked = Arc::<AtomicUsize>::default();
        let timer = |lease: Cut| {
            let (both, asked) = (both.clone(), asked.clone());
            let timer = every(500)
                .single_by(lease)
                .ttl(ms(3000))
                .grace(ms(300))
                .overlap(overlap);
            timer.clock(wall.clone()).start(move |tick| {
                let (both, asked) = (both.clone(), asked.clone());
                async move {
                    let _running = running(both).await;
                    let cancelled = tick.cancelled();
                    tokio::select! {
                        () = cancelled => {
                            asked.fetch_add(1, SeqCst);
                            std::future::pending::<()>().await;
                        }
                        () = sleep(ms(60_000)) => {}
                    }
                }
            })
        };
        let cut = Cut {
            silent,
            ..Cut::of(&store)
        };
        let first = timer(cut.clone());
        sleep(ms(700)).await;
        assert!(first.stats().running > 0);
        cut.cut.store(true, SeqCst);
        sleep(ms(3000)).await;
        assert_eq!(first.stats().running, 0, "{overlap:?}");
        assert!(asked.load(SeqCst) > 0, "they were asked first");
        // Nobody has the lease, and the first goes on when it can.
        cut.cut.store(false, SeqCst);
        sleep(ms(2000)).await;
        assert!(first.stats().running > 0);
        let started = first.stats().started;

        // While it is cut off again, another takes over, never two at once.
        cut.cut.store(true, SeqCst);
        both.1.store(0, SeqCst);
        let before = both.0.load(SeqCst);
        let second = timer(Cut::of(&store));
        sleep(ms(8000)).await;
        assert!(second.stats().running > 0, "{:?}", second.stats());
        assert_eq!(first.stats().running, 0);
        if overlap == Overlap::Skip {
            assert_eq!((before, both.1.load(SeqCst)), (1, 1));
        }
        assert!(first.stats().started >= started);
        second.stop().await;
        first.stop().await;
        assert_eq!(both.0.load(SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_once_starts_only_what_is_recorded() {
    let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
    let cut = Cut::of(&lease);
    let timer = |lease: Cut| {
        every(1000)
            .single_by(lease)
            .ttl(ms(3000))
            .delivery(Delivery::AtMostOnce)
            .clock(wall.clone())
    };
    let first = start(timer(cut.clone()), 'a', &log, 100);
    sleep(ms(1500)).await;
    cut.cut.store(true, SeqCst);
    sleep(ms(1000)).await; // that of 2000 can't be recorded
    assert_eq!(first.stats().started, 2);
    assert_eq!(log.lock().unwrap().len(), 2);
    let second = start(timer(Cut::of(&lease)), 'b', &log, 100);
    sleep(ms(5000)).await;
    first.stop().await;
    second.stop().await;
    let mut dues: Vec<u64> = log.lock().unwrap().iter().map(|(_, due, _)| *due).collect();
    let count = dues.len();
    assert!(count > 4, "{dues:?}");
    dues.sort();
    dues.dedup();
    assert_eq!(dues.len(), count, "none was started twice");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_cut_short_runs_again_elsewhere() {
    for (delivery, again) in [(Delivery::AtLeastOnce, true), (Delivery::AtMostOnce, false)] {
        let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
        let timer = || {
            every(1000)
                .single_by(lease.clone())
                .delivery(delivery)
                .clock(wall.clone())
        };
        let first = start(timer(), 'a', &log, 500);
        sleep(ms(1100)).await;
        first.stop().await; // in the tick of 1000
        let second = start(timer(), 'b', &log, 0);
        sleep(ms(1000)).await;
        second.stop().await;
        let dues: Vec<(char, u64)> = log
            .lock()
            .unwrap()
            .iter()
            .map(|(who, due, _)| (*who, *due))
            .collect();
        let mut expected = vec![('a', 0), ('a', 1000)];
        if again {
            expected.push(('b', 1000));
        }
        expected.push(('b', 2000));
        assert_eq!(dues, expected, "{delivery:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fell_into_an_outage_of_all_is_missed() {
    for (missed, expected) in [
        (Missed::Coalesce, vec![0, 6_000_000, 6_600_000]),
        (Missed::Skip, vec![0, 6_600_000]),
        (Missed::Burst(2), vec![0, 5_400_000, 6_000_000, 6_600_000]),
    ] {
        let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
        let grid = 600_000; // ten minutes; the clock starts at a multiple of it, less 400 s
        let timer = || {
            every(grid)
                .single_by(lease.clone())
                .missed(missed)
                .clock(wall.clone())
        };
        sleep(ms(200_000)).await; // to a due time
        let offset = 200_000;
        let first = start(timer(), 'a', &log, 0);
        sleep(ms(10)).await;
        first.stop().await;
        sleep(ms(6_000_000)).await; // ten of them
        let second = start(timer(), 'b', &log, 0);
        sleep(ms(600_000)).await;
        second.stop().await;
        let dues: Vec<u64> = log
            .lock()
            .unwrap()
            .iter()
            .map(|(_, due, _)| due - offset)
            .collect();
        assert_eq!(dues, expected, "{missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_allow_the_oldest_that_isnt_done_counts() {
    let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
    let timer = || {
        let timer = every(100).single_by(lease.clone()).clock(wall.clone());
        timer.overlap(Overlap::Allow(8)).missed(Missed::Burst(20))
    };
    let seen = log.clone();
    let first = timer().start(move |tick| {
        started(&seen, 'a', &tick);
        // That of 200 takes longer than the others.
        let length = if tick.index() == 2 { 10_000 } else { 10 };
        sleep(ms(length))
    });
    sleep(ms(550)).await;
    first.stop().await;
    let second = start(timer(), 'b', &log, 10);
    sleep(ms(10)).await;
    second.stop().await;
    let by_b: Vec<u64> = log
        .lock()
        .unwrap()
        .iter()
        .filter(|(who, ..)| *who == 'b')
        .map(|(_, due, _)| *due)
        .collect();
    assert_eq!(by_b, [200, 300, 400, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_holder_goes_on_where_it_was_cut_off() {
    // Cut off until its ticks were asked to end, and until they were dropped.
    for outage in [2_450, 6_000] {
        let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
        let cut = Cut::of(&lease);
        let timer = every(1000).single_by(cut.clone()).ttl(ms(3000));
        let timer = timer
            .grace(ms(300))
            .missed(Missed::Burst(20))
            .overlap(Overlap::Queue(20));
        let seen = log.clone();
        let timer = timer.clock(wall.clone()).start(move |tick| {
            started(&seen, 'a', &tick);
            // The one that is cut short takes long.
            let length = if seen.lock().unwrap().len() == 2 {
                60_000
            } else {
                10
            };
            async move {
                tokio::select! {
                    () = tick.cancelled() => {}
                    () = sleep(ms(length)) => {}
                }
            }
        });
        sleep(ms(1_100)).await;
        cut.cut.store(true, SeqCst);
        sleep(ms(outage)).await;
        assert_eq!(timer.stats().cancelled, 1, "after {outage} ms");
        cut.cut.store(false, SeqCst);
        sleep(ms(9_900 - outage)).await;
        timer.stop().await;
        let dues: Vec<u64> = log.lock().unwrap().iter().map(|(_, due, _)| *due).collect();
        let mut expected = vec![0, 1000];
        expected.extend((1..=10).map(|k| k * 1000));
        assert_eq!(dues, expected, "after {outage} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_due_in_a_crash_before_the_first_record_is_not_lost() {
    let (lease, wall, log) = (MemoryLease::new(), wall(), Log::default());
    let cut = Cut::of(&lease);
    let timer = |lease: Cut| {
        let timer = every(60_000).single_by(lease).ttl(ms(3000));
        timer.clock(wall.clone())
    };
    sleep(ms(5_000)).await; // 15 s before the first due time
    let first = start(timer(cut.clone()), 'a', &log, 0);
    sleep(ms(14_000)).await;
    cut.cut.store(true, SeqCst);
    let second = start(timer(Cut::of(&lease)), 'b', &log, 0);
    sleep(ms(6_000)).await;
    second.stop().await;
    first.stop().await;
    let log = log.lock().unwrap();
    let runs: Vec<(char, u64)> = log.iter().map(|(who, due, _)| (*who, *due)).collect();
    assert_eq!(runs.last(), Some(&('b', 20_000)), "{runs:?}");
}

/// What is replayed may wait behind a newer due time, and isn't done with that.
#[tokio::test(start_paused = true)]
async fn a_replay_behind_a_newer_due_time_is_not_lost() {
    let (lease, wall) = (MemoryLease::new(), wall());
    let done = Arc::<Mutex<BTreeSet<u64>>>::default();
    let start = |lease: Cut, length: u64| {
        let timer = every(100).single_by(lease).ttl(ms(3000));
        let timer = timer
            .overlap(Overlap::Queue(100))
            .missed(Missed::Burst(100));
        let done = done.clone();
        timer.clock(wall.clone()).start(move |tick| {
            let done = done.clone();
            async move {
                sleep(ms(length)).await;
                let due = tick.scheduled_at().duration_since(UNIX_EPOCH).unwrap();
                done.lock()
                    .unwrap()
                    .insert(due.as_millis() as u64 - 1_000_000_000);
            }
        })
    };
    let first = start(Cut::of(&lease), 10);
    sleep(ms(50)).await;
    first.stop().await;
    sleep(ms(1_000)).await;
    // Ten are missed, and more come while it makes up for them.
    let cut = Cut::of(&lease);
    let second = start(cut.clone(), 70);
    sleep(ms(400)).await;
    cut.cut.store(true, SeqCst);
    second.stop().await;
    let third = start(Cut::of(&lease), 1);
    sleep(ms(5_000)).await;
    third.stop().await;
    let all: BTreeSet<u64> = (0..=60).map(|k| k * 100).collect();
    let done = done.lock().unwrap();
    assert_eq!(all.difference(&done).count(), 0, "{done:?}");
}

#[timer(100ms, single = lease, ttl = 3s, delivery = at_most_once, name = "sweep")]
async fn sweep(tick: Tick, lease: BoxLease, tokens: Arc<Mutex<Vec<Token>>>) {
    tokens.lock().unwrap().push(tick.token().unwrap());
}

#[timer(100ms, single)]
async fn alone(ticks: Arc<AtomicUsize>) {
    ticks.fetch_add(1, SeqCst);
}

#[tokio::test(start_paused = true)]
async fn the_attribute_takes_a_lease_and_none() {
    let (lease, tokens) = (BoxLease::new(MemoryLease::new()), Arc::default());
    let timers = [(); 3].map(|()| sweep(lease.clone(), Arc::clone(&tokens)));
    // By the system's clock: in paused time it stands nearly still.
    for timer in &timers {
        timer.stop().await;
    }
    let ticks = Arc::<AtomicUsize>::default();
    let timer = alone(ticks.clone());
    sleep(ms(250)).await;
    timer.stop().await;
    assert_eq!(ticks.load(SeqCst), 3, "outside a server there is no other");
}
