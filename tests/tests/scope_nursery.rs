//! What trio asks of its nurseries and cancel scopes, where a scope has the same: the behaviours of its own
//! `test_run.py`, under the names they have there.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Always, ChildError, ExitStack, Scope, actxmgr, drain, scope};
use aioxide_tests::PATIENCE;
use aioxide_tests::scopes::{Census, no_tasks, on_both_runtimes, runtimes};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

type Log = Arc<Mutex<Vec<String>>>;
type Boxed = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

fn crash(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

fn text<T: std::fmt::Debug>(ended: io::Result<T>) -> String {
    ended.unwrap_err().to_string()
}

/// `test_basic`, `test_initial_task_error`, `test_nursery_main_block_error_basic`
#[test]
fn the_body_gives_its_value_or_its_error() {
    on_both_runtimes(|| async {
        let value = scope::<io::Error>()
            .with(async |_| Ok::<_, io::Error>(7))
            .await;
        assert_eq!(value.unwrap(), 7);
        let error = scope::<io::Error>()
            .with(async |_| Err::<(), _>(crash("of the block")))
            .await;
        assert_eq!(text(error), "of the block");
    });
}

/// `test_run_nesting`: a scope in the body of a scope, and in a task of it.
#[test]
fn scopes_nest() {
    async fn three() -> io::Result<u32> {
        scope::<io::Error>()
            .with(async |inner| Ok(inner.spawn_value(async { 3 }).await?))
            .await
    }
    on_both_runtimes(|| async {
        let sum = scope::<io::Error>()
            .with(async |outer| {
                let task = outer.spawn(three());
                Ok::<_, io::Error>(three().await? + task.await?)
            })
            .await;
        assert_eq!(sum.unwrap(), 6);
    });
}

/// `test_child_crash_basic`
#[test]
fn the_error_of_a_child_is_the_nurserys() {
    on_both_runtimes(|| async {
        let ended = scope()
            .with(async |scope| {
                scope.spawn(async { Err::<(), _>(crash("of the child")) });
                Ok::<_, io::Error>(())
            })
            .await;
        assert_eq!(text(ended), "of the child");
    });
}

/// `test_basic_interleave`
#[test]
fn children_take_turns() {
    let [runtime, _] = runtimes();
    runtime.block_on(async {
        let log = &Log::default();
        scope::<io::Error>()
            .with(async |scope| {
                for name in ["a", "b"] {
                    let log = Arc::clone(log);
                    scope.spawn(async move {
                        for turn in 0..3 {
                            log.lock().unwrap().push(format!("{name}{turn}"));
                            yield_now().await;
                        }
                    });
                }
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        // Who is first in a turn isn't said.
        let mut log = log.lock().unwrap().clone();
        log.chunks_mut(2).for_each(<[String]>::sort);
        assert_eq!(log, ["a0", "b0", "a1", "b1", "a2", "b2"]);
    });
}

/// `test_task_crash_propagation`: a crash ends the siblings, which see it.
#[test]
fn a_crash_ends_the_siblings() {
    struct Noting(Log);
    impl Drop for Noting {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("looper ended".to_owned());
        }
    }
    on_both_runtimes(|| async {
        let log = &Log::default();
        let ended = scope()
            .with(async |scope| {
                let noting = Noting(Arc::clone(log));
                scope.spawn(async move {
                    let _noting = noting;
                    loop {
                        yield_now().await;
                    }
                });
                scope.spawn(async { Err::<(), _>(crash("argh")) });
                Ok::<_, io::Error>(())
            })
            .await;
        assert_eq!(text(ended), "argh");
        assert_eq!(*log.lock().unwrap(), ["looper ended"]);
    });
}

/// `test_main_and_task_both_crash`: trio has groups of exceptions; here the first one is returned.
#[test]
fn of_the_block_and_a_child_that_crash_the_first_counts() {
    on_both_runtimes(|| async {
        let ended = scope::<io::Error>()
            .grace(PATIENCE)
            .with(async |scope| {
                let cancelled = scope.cancelled();
                scope.spawn(async move {
                    cancelled.await;
                    Err::<(), _>(crash("of the child"))
                });
                yield_now().await;
                Err::<(), _>(crash("of the block"))
            })
            .await;
        assert_eq!(text(ended), "of the block");
    });
}

/// `test_two_child_crashes`
#[test]
fn of_two_children_that_crash_the_first_counts() {
    on_both_runtimes(|| async {
        let handle = &Mutex::new(None);
        let ended = scope()
            .grace(PATIENCE)
            .with(async |scope| {
                *handle.lock().unwrap() = Some(scope.clone());
                let cancelled = scope.cancelled();
                scope.spawn(async move {
                    cancelled.await;
                    Err::<(), _>(crash("the second"))
                });
                scope.spawn(async { Err::<(), _>(crash("the first")) });
                Ok::<_, io::Error>(())
            })
            .await;
        assert_eq!(text(ended), "the first");
        assert_eq!(handle.lock().unwrap().as_ref().unwrap().failures(), 2);
    });
}

/// `test_child_crash_wakes_parent`
#[test]
fn a_crash_wakes_the_parent() {
    on_both_runtimes(|| async {
        let ended = scope()
            .with(async |scope| {
                scope.spawn(async { Err::<(), _>(crash("wake up")) });
                pending::<io::Result<()>>().await
            })
            .await;
        assert_eq!(text(ended), "wake up");
    });
}

/// `test_cancel_edge_cases`: cancelled before anything is awaited, and twice.
#[test]
fn cancelled_twice_is_cancelled() {
    on_both_runtimes(|| async {
        scope::<io::Error>()
            .with(async |scope| {
                scope.cancel();
                scope.cancel();
                scope.cancelled().await;
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
    });
}

/// `test_precancelled_task`: a task that is cancelled before it has run never runs.
#[test]
fn a_task_that_is_cancelled_before_it_runs_never_runs() {
    let [runtime, _] = runtimes();
    runtime.block_on(async {
        let ran = &Arc::new(AtomicUsize::new(0));
        scope::<io::Error>()
            .with(async |scope| {
                let count = Arc::clone(ran);
                let task = scope.spawn(async move {
                    count.fetch_add(1, Ordering::Relaxed);
                });
                scope.cancel();
                assert_eq!(task.await, Err(ChildError::Cancelled));
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 0);
    });
}

/// `test_cancel_inheritance`, `test_cancel_scope_nesting`: an outer scope that is cancelled ends all inside of it;
/// an inner one ends itself alone.
#[test]
fn a_cancelled_scope_ends_those_inside_of_it() {
    fn nested(census: Arc<Census>, depth: usize) -> Boxed {
        Box::pin(async move {
            let _held = census.enter();
            let inner = scope::<io::Error>().await?;
            if depth > 0 {
                inner.spawn(nested(Arc::clone(&census), depth - 1));
            }
            pending().await
        })
    }
    on_both_runtimes(|| async {
        let census = &Arc::new(Census::default());
        scope::<io::Error>()
            .with(async |outer| {
                outer.spawn(nested(Arc::clone(census), 20));
                while census.len() < 21 {
                    sleep(Duration::from_millis(1)).await;
                }
                outer.cancel();
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert!(census.is_empty());
        no_tasks().await;

        let ended = scope::<io::Error>()
            .with(async |outer| {
                let task = outer.spawn(async {
                    sleep(Duration::from_millis(10)).await;
                    Ok("goes on")
                });
                scope::<io::Error>()
                    .with(async |inner| {
                        inner.spawn(async { pending::<io::Result<()>>().await });
                        inner.cancel();
                        Ok::<_, io::Error>(())
                    })
                    .await?;
                assert!(!outer.is_cancelled());
                Ok::<_, io::Error>(task.await?)
            })
            .await;
        assert_eq!(ended.unwrap(), "goes on");
    });
}

/// `test_very_deep_cancel_scope_nesting`
#[test]
fn a_thousand_scopes_deep() {
    fn deep(left: usize) -> Boxed {
        Box::pin(async move {
            let guard = scope::<io::Error>().await?;
            if left == 0 {
                return Err(crash("at the bottom"));
            }
            guard.spawn(deep(left - 1));
            guard.exit().await
        })
    }
    on_both_runtimes(|| async {
        assert_eq!(text(deep(1000).await), "at the bottom");
        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
    });
}

/// `test_basic_timeout`: a deadline that passes, and one that doesn't.
#[test]
fn a_deadline_counts_from_the_enter() {
    let [runtime, _] = runtimes();
    runtime.block_on(async {
        for (sleeps, passes) in [(2, false), (9, true)] {
            let context = scope::<io::Error>().deadline(Duration::from_secs(5));
            sleep(Duration::from_secs(3)).await;
            let start = Instant::now();
            let ended = context
                .with(async |_| {
                    sleep(Duration::from_secs(sleeps)).await;
                    Ok::<_, io::Error>(())
                })
                .await;
            assert_eq!(ended.is_err(), passes);
            assert_eq!(start.elapsed().as_secs(), sleeps.min(5));
        }
    });
}

/// `test_failed_abort`: a child that doesn't let itself be cancelled is waited for.
#[test]
fn a_child_that_cannot_be_cancelled_is_waited_for() {
    let [_, runtime] = runtimes();
    runtime.block_on(async {
        let census = &Census::default();
        let (told, hear) = std::sync::mpsc::channel::<()>();
        let (started, start) = tokio::sync::oneshot::channel();
        let held = census.enter();
        let ended = scope::<io::Error>().with(async |scope| {
            scope.spawn(async move {
                let _held = held;
                started.send(()).unwrap();
                // Blocks its thread.
                hear.recv_timeout(PATIENCE).unwrap();
            });
            start.await.unwrap();
            scope.cancel();
            Ok::<_, io::Error>(())
        });
        let mut ended = Box::pin(ended);
        timeout(Duration::from_millis(50), &mut ended)
            .await
            .unwrap_err();
        assert_eq!(census.len(), 1);
        told.send(()).unwrap();
        ended.await.unwrap();
        assert!(census.is_empty());
    });
}

/// `test_slow_abort_basic`: a child that takes its time to end, within the grace.
#[test]
fn a_child_may_take_its_time_to_end() {
    let [runtime, _] = runtimes();
    runtime.block_on(async {
        let start = Instant::now();
        scope::<io::Error>()
            .grace(Duration::from_secs(10))
            .with(async |scope| {
                let cancelled = scope.cancelled();
                scope.spawn(async move {
                    cancelled.await;
                    sleep(Duration::from_secs(7)).await;
                });
                scope.cancel();
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(start.elapsed().as_secs(), 7);
        no_tasks().await;
    });
}

/// `test_nursery_closure`: while it waits, children may still be started; when it has ended, none.
#[test]
fn a_nursery_closes_when_its_last_child_has_ended() {
    on_both_runtimes(|| async {
        let count = &Arc::new(AtomicUsize::new(0));
        let handle: Scope<io::Error> = scope()
            .with(async |scope| {
                let (own, count) = (scope.clone(), Arc::clone(count));
                scope.spawn(async move {
                    sleep(Duration::from_millis(5)).await;
                    // The body has ended long ago.
                    let late = own.spawn(async { Ok(1) });
                    count.fetch_add(late.await.unwrap(), Ordering::Relaxed);
                });
                Ok::<_, io::Error>(scope.clone())
            })
            .await
            .unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(handle.try_spawn(async { Ok(1) }).is_err());
    });
}

/// `test_asyncexitstack_nursery_misnest` and its cleanup: in a stack, last in first out, whatever fails.
#[test]
fn in_a_stack_nurseries_end_last_first() {
    #[actxmgr]
    async fn noted(log: Log, left: Arc<Notify>) -> Always<()> {
        yield_().await;
        log.lock().unwrap().push("a context between".to_owned());
        left.notify_one();
    }
    on_both_runtimes(|| async {
        let log = Log::default();
        let noting = |name: &'static str| {
            let log = Arc::clone(&log);
            async move { log.lock().unwrap().push(name.to_owned()) }
        };
        let mut stack = ExitStack::new();
        let outer = stack.enter(scope::<io::Error>()).await.unwrap();
        let between = Arc::new(Notify::new());
        stack
            .enter(noted(Arc::clone(&log), Arc::clone(&between)))
            .await;
        let inner = stack.enter(scope::<io::Error>()).await.unwrap();
        let (told, note) = (Arc::clone(&between), noting("a task of the outer"));
        outer.spawn(async move {
            told.notified().await;
            note.await;
        });
        inner.spawn(noting("a task of the inner")).await.unwrap();
        inner.spawn(async { Err::<(), _>(crash("of the inner")) });
        inner.cancelled().await;
        assert!(!outer.is_cancelled());
        let errors = stack.exit().await.unwrap_err();
        assert_eq!(
            errors.to_string(),
            "the teardown of `scope` failed: of the inner"
        );
        no_tasks().await;
    });
}

/// `test_locals_destroyed_promptly_on_cancel`
#[test]
fn what_a_cancelled_child_holds_is_gone_when_its_handle_tells() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        scope::<io::Error>()
            .with(async |scope| {
                let held = census.enter();
                let task = scope.spawn(async move {
                    let _held = held;
                    pending::<io::Result<()>>().await
                });
                yield_now().await;
                scope.cancel();
                assert_eq!(task.await, Err(ChildError::Cancelled));
                assert!(census.is_empty());
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
    });
}
