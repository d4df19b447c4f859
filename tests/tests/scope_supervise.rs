//! Tasks that are started again: on a paused clock, to the millisecond but for a tenth of a delay that is random.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Always, ChildError, Exit, Ignore, Restart, Together, actxmgr, scope};
use aioxide_tests::scopes::{Census, no_tasks, runtimes};
use tokio::time::{Instant, sleep};

fn paused<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let [runtime, _] = runtimes();
    runtime.block_on(async {
        test().await;
        no_tasks().await;
    });
}

fn broken(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

/// Notes when each of its runs begins.
#[derive(Clone)]
struct Runs {
    since: Instant,
    begun: Arc<Mutex<Vec<Duration>>>,
}

impl Runs {
    fn new() -> Runs {
        Runs {
            since: Instant::now(),
            begun: Arc::default(),
        }
    }

    /// Gives the number of this run.
    fn begin(&self) -> usize {
        let mut begun = self.begun.lock().unwrap();
        begun.push(self.since.elapsed());
        begun.len()
    }

    fn len(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    /// How long after one run the next one began.
    fn gaps(&self) -> Vec<Duration> {
        let begun = self.begun.lock().unwrap();
        begun.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

fn assert_about(gap: Duration, expected: Duration) {
    let least = expected.mul_f64(0.9);
    // The clock of tokio has milliseconds.
    let most = expected + Duration::from_millis(2);
    assert!((least..=most).contains(&gap), "{gap:?} for {expected:?}");
}

#[test]
fn it_is_started_again_with_a_delay_that_doubles() {
    paused(|| async {
        let runs = &Runs::new();
        let ended = scope()
            .with(async |scope| {
                let own = runs.clone();
                let task = scope.supervise("failing", Restart::default(), move || {
                    let number = own.begin();
                    async move {
                        match number {
                            10 => Ok("enough"),
                            number if number % 2 == 0 => panic!("run {number}"),
                            _ => Err(broken("not yet")),
                        }
                    }
                });
                let value = task.await?;
                assert_eq!(scope.failures(), 9);
                Ok::<_, io::Error>(value)
            })
            .await;
        assert_eq!(ended.unwrap(), "enough");
        let delays = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        for (gap, delay) in runs.gaps().into_iter().zip(delays) {
            assert_about(gap, Duration::from_millis(delay));
        }
    });
}

#[test]
fn one_failure_too_many_is_the_scopes() {
    paused(|| async {
        let (runs, census) = (&Runs::new(), &Census::default());
        let handle = &Mutex::new(None);
        let rule = Restart {
            max: 3,
            ..Restart::default()
        };
        let ended = scope()
            .with(async |scope| {
                let held = census.enter();
                scope.spawn(async move {
                    let _held = held;
                    pending::<()>().await;
                });
                let own = runs.clone();
                let task = scope.supervise("hopeless", rule, move || {
                    let number = own.begin();
                    async move { Err::<(), _>(broken(&format!("failure {number}"))) }
                });
                *handle.lock().unwrap() = Some(task);
                pending::<io::Result<()>>().await
            })
            .await;
        assert_eq!(ended.unwrap_err().to_string(), "failure 4");
        assert_eq!(runs.len(), 4);
        assert!(census.is_empty());
        let task = handle.lock().unwrap().take().unwrap();
        assert_eq!(task.await, Err(ChildError::Failed));
    });
}

#[test]
fn with_ignore_one_failure_too_many_is_its_own() {
    paused(|| async {
        let rule = Restart {
            max: 0,
            ..Restart::default()
        };
        let ended = scope::<io::Error>()
            .on_failure(Ignore)
            .with(async |scope| {
                let task = scope.supervise("hopeless", rule, || async {
                    Err::<(), _>(broken("never mind"))
                });
                assert_eq!(task.await, Err(ChildError::Failed));
                Ok::<_, io::Error>("goes on")
            })
            .await;
        assert_eq!(ended.unwrap(), "goes on");
    });
}

#[test]
fn failures_outside_the_window_are_forgotten_and_a_long_run_makes_up_for_them() {
    paused(|| async {
        let runs = &Runs::new();
        let rule = Restart {
            max: 2,
            window: Duration::from_secs(10),
            ..Restart::default()
        };
        scope()
            .with(async |scope| {
                let own = runs.clone();
                let task = scope.supervise("now and then", rule, move || {
                    let number = own.begin();
                    async move {
                        match number {
                            9 => return Ok(()),
                            number if number % 2 == 0 => sleep(Duration::from_secs(11)).await,
                            _ => {}
                        }
                        Err(broken("again"))
                    }
                });
                task.await?;
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        for (at, gap) in runs.gaps().into_iter().enumerate() {
            // A run that fails at once comes after one that lasted, or is the first: its delay is the second one.
            let expected = match at {
                0 => Duration::from_millis(100),
                at if at % 2 == 0 => Duration::from_millis(200),
                _ => Duration::from_millis(11_100),
            };
            let (least, most) = (
                expected - Duration::from_millis(20),
                expected + Duration::from_millis(2),
            );
            assert!(
                (least..=most).contains(&gap),
                "{at}: {gap:?} for {expected:?}"
            );
        }
    });
}

#[test]
fn supervised_ones_end_with_the_others() {
    paused(|| async {
        let census = &Census::default();
        let start = Instant::now();
        let task = scope::<io::Error>()
            .with(async |scope| {
                let held = Arc::new(Mutex::new(Some(census.enter())));
                let task = scope.supervise("forever", Restart::default(), move || {
                    let held = held.lock().unwrap().take();
                    async move {
                        let _held = held;
                        pending::<()>().await;
                    }
                });
                scope.spawn(sleep(Duration::from_secs(5)));
                Ok::<_, io::Error>(task)
            })
            .await
            .unwrap();
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(census.is_empty());
        assert_eq!(task.await, Err(ChildError::Cancelled));
    });
}

#[test]
fn a_supervised_one_may_take_its_grace() {
    paused(|| async {
        let start = Instant::now();
        let task = scope::<io::Error>()
            .grace(Duration::from_secs(60))
            .with(async |scope| {
                let own = scope.clone();
                let task = scope.supervise("polite", Restart::default(), move || {
                    let cancelled = own.cancelled();
                    async move {
                        cancelled.await;
                        sleep(Duration::from_secs(2)).await;
                        Ok("goodbye")
                    }
                });
                sleep(Duration::from_secs(1)).await;
                Ok::<_, io::Error>(task)
            })
            .await
            .unwrap();
        assert_eq!(start.elapsed().as_secs(), 3);
        assert_eq!(task.await, Ok("goodbye"));
    });
}

#[test]
fn a_run_that_fails_while_it_ends_is_the_last() {
    paused(|| async {
        let runs = &Runs::new();
        let ended = scope::<io::Error>()
            .grace(Duration::from_secs(60))
            .with(async |scope| {
                let (own, runs) = (scope.clone(), runs.clone());
                scope.supervise("impolite", Restart::default(), move || {
                    runs.begin();
                    let cancelled = own.cancelled();
                    async move {
                        cancelled.await;
                        Err::<(), _>(broken("no goodbye"))
                    }
                });
                sleep(Duration::from_secs(1)).await;
                Ok::<_, io::Error>(())
            })
            .await;
        assert_eq!(ended.unwrap_err().to_string(), "no goodbye");
        assert_eq!(runs.len(), 1);
    });
}

#[test]
fn one_that_waits_to_be_started_again_ends_at_once() {
    paused(|| async {
        let start = Instant::now();
        let rule = Restart {
            backoff: Duration::from_secs(3600),
            ..Restart::default()
        };
        let task = scope::<io::Error>()
            .grace(Duration::from_secs(600))
            .with(async |scope| {
                let task = scope.supervise("down", rule, || async { Err::<(), _>(broken("down")) });
                sleep(Duration::from_secs(1)).await;
                assert_eq!(scope.failures(), 1);
                Ok::<_, io::Error>(task)
            })
            .await
            .unwrap();
        assert_eq!(start.elapsed().as_secs(), 1);
        assert_eq!(task.await, Err(ChildError::Cancelled));
    });
}

#[test]
fn supervise_forever_keeps_the_scope_open() {
    paused(|| async {
        let runs = &Runs::new();
        let start = Instant::now();
        scope::<io::Error>()
            .with(async |scope| {
                let own = runs.clone();
                scope.supervise_forever("feed", Restart::default(), move || {
                    let number = own.begin();
                    async move {
                        sleep(Duration::from_secs(100)).await;
                        if number < 3 {
                            Err(broken("reset"))
                        } else {
                            Ok(())
                        }
                    }
                });
                scope.supervise("beside", Restart::default(), pending::<()>);
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(runs.len(), 3);
        assert_eq!(start.elapsed().as_secs(), 300);
    });
}

#[test]
fn an_aborted_one_is_not_started_again() {
    paused(|| async {
        let runs = &Runs::new();
        scope::<io::Error>()
            .with(async |scope| {
                let own = runs.clone();
                let task = scope.supervise_forever("stuck", Restart::default(), move || {
                    own.begin();
                    pending::<()>()
                });
                sleep(Duration::from_secs(1)).await;
                task.abort();
                assert_eq!(task.await, Err(ChildError::Cancelled));
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(runs.len(), 1);
    });
}

#[actxmgr]
async fn lock(taken: Arc<AtomicUsize>) -> Always<()> {
    assert_eq!(taken.fetch_add(1, Ordering::Relaxed), 0, "it is held twice");
    let exit = yield_().await;
    assert_eq!(exit, Exit::Cancelled);
    sleep(Duration::from_secs(30)).await;
    taken.fetch_sub(1, Ordering::Relaxed);
}

#[test]
fn what_a_run_has_dropped_is_torn_down_before_the_next_one() {
    paused(|| async {
        let runs = &Runs::new();
        let taken = Arc::new(AtomicUsize::new(0));
        scope()
            .with(async |scope| {
                let own = runs.clone();
                let task = scope.supervise("locking", Restart::default(), move || {
                    let (number, taken) = (own.begin(), Arc::clone(&taken));
                    async move {
                        if number == 3 {
                            return Ok(());
                        }
                        let _guard = lock(taken).await;
                        Err(broken("with the lock held"))
                    }
                });
                task.await?;
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        // The failure counts from when its traces are gone.
        for (gap, delay) in runs.gaps().into_iter().zip([100, 200]) {
            let rest = gap - Duration::from_secs(30);
            assert_about(rest, Duration::from_millis(delay));
        }
    });
}

#[test]
fn together_all_are_started_again() {
    paused(|| async {
        let census = &Arc::new(Census::default());
        let (left, right) = (&Runs::new(), &Runs::new());
        let done = &Runs::new();
        scope()
            .with(async |scope| {
                let own = right.clone();
                let (alive, taken) = (Arc::clone(census), Arc::new(AtomicUsize::new(0)));
                scope.supervise("right", Restart::default(), move || {
                    own.begin();
                    let (held, taken) = (alive.enter(), Arc::clone(&taken));
                    async move {
                        let _held = held;
                        let _guard = lock(taken).await;
                        pending::<()>().await;
                    }
                });
                let own = done.clone();
                let done = scope.supervise("done", Restart::default(), move || {
                    own.begin();
                    async { Ok(()) }
                });
                done.await?;
                let (own, alive) = (left.clone(), Arc::clone(census));
                let task = scope.supervise("left", Restart::together(), move || {
                    let number = own.begin();
                    let beside = alive.len();
                    async move {
                        sleep(Duration::from_secs(1)).await;
                        if number == 4 {
                            return Ok(());
                        }
                        assert!(beside <= 1, "runs of two rounds meet");
                        Err(broken("takes the other along"))
                    }
                });
                task.await?;
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!((left.len(), right.len(), done.len()), (4, 4, 1));
        // Neither begins before the teardown of the other.
        for gap in left
            .gaps()
            .into_iter()
            .chain(right.gaps().into_iter().skip(1))
        {
            assert_about(gap, Duration::from_secs(31));
        }
        assert!(census.is_empty());
    });
}

#[test]
fn together_failures_count_for_the_one_that_failed() {
    paused(|| async {
        let beside = &Runs::new();
        let rule = Together(Restart {
            max: 3,
            ..Restart::default()
        });
        let ended = scope()
            .with(async |scope| {
                let own = beside.clone();
                let never = Restart {
                    max: 0,
                    ..Restart::default()
                };
                scope.supervise("beside", never, move || {
                    own.begin();
                    pending::<()>()
                });
                scope.supervise("failing", rule, || async {
                    Err::<(), _>(broken("for good"))
                });
                pending::<io::Result<()>>().await
            })
            .await;
        assert_eq!(ended.unwrap_err().to_string(), "for good");
        assert_eq!(beside.len(), 4);
    });
}

#[test]
fn a_make_that_panics_is_a_run_that_failed() {
    paused(|| async {
        let runs = &Runs::new();
        scope::<io::Error>()
            .with(async |scope| {
                let own = runs.clone();
                let task = scope.supervise("made badly", Restart::default(), move || {
                    assert_eq!(own.begin(), 2, "not yet");
                    async {}
                });
                task.await?;
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(runs.len(), 2);
    });
}

#[test]
fn on_threads_it_is_started_again_too() {
    let [_, runtime] = runtimes();
    runtime.block_on(async {
        let rule = Together(Restart {
            backoff: Duration::from_millis(1),
            max: 100,
            window: Duration::from_secs(60),
        });
        let ended: &Arc<AtomicUsize> = &Arc::default();
        scope::<io::Error>()
            .with(async |scope| {
                let tasks: Vec<_> = (0..8)
                    .map(|own: usize| {
                        let (ended, mut left) = (Arc::clone(ended), own);
                        scope.supervise("one of eight", rule, move || {
                            let fails = left > 0;
                            left = left.saturating_sub(1);
                            let ended = Arc::clone(&ended);
                            async move {
                                tokio::task::yield_now().await;
                                if fails {
                                    return Err(broken("not yet"));
                                }
                                ended.fetch_add(1, Ordering::Relaxed);
                                Ok(())
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await?;
                }
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(ended.load(Ordering::Relaxed), 8);
        no_tasks().await;
    });
}
