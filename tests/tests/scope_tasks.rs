//! How tasks of a scope fail, end and are cancelled, on both kinds of runtime.

use std::error::Error;
use std::fmt;
use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aioxide::{
    Always, ChildError, Context as Enterable, Elapsed, Exit, ExitStack, Guard, Ignore, Scope,
    ScopedTask, actxmgr, drain, group, scope,
};
use aioxide_tests::PATIENCE;
use aioxide_tests::scopes::{Census, Counted, no_tasks, on_both_runtimes, runtimes};
use tokio::runtime::Builder;
use tokio::sync::{Barrier, Mutex as AsyncMutex, Notify, OwnedMutexGuard, oneshot};
use tokio::task::{LocalSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

fn broken(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

async fn panicking(number: u32) {
    panic!("number {number}");
}

/// Never ends by itself.
async fn forever(_held: Counted) -> io::Result<()> {
    pending().await
}

#[test]
fn values_come_back_and_all_are_waited_for() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let sum = scope::<io::Error>()
            .with(async |scope| {
                let tasks: Vec<ScopedTask<u32>> = (0..10)
                    .map(|number| {
                        let held = census.enter();
                        scope.spawn(async move {
                            yield_now().await;
                            drop(held);
                            Ok(number)
                        })
                    })
                    .collect();
                let held = census.enter();
                scope.spawn(async move {
                    sleep(Duration::from_millis(20)).await;
                    drop(held);
                });
                let text = scope.spawn_value(async { "any type" });
                let mut sum = 0;
                for task in tasks {
                    sum += task.await?;
                }
                assert_eq!(text.await?, "any type");
                Ok::<_, io::Error>(sum)
            })
            .await;
        assert_eq!(sum.unwrap(), 45);
        assert!(census.is_empty(), "one was not waited for");
        no_tasks().await;
    });
}

#[test]
fn the_first_failure_ends_tasks_and_body() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let ended = scope()
            .with(async |scope| {
                for _ in 0..10 {
                    scope.spawn(forever(census.enter()));
                }
                scope.spawn(async {
                    yield_now().await;
                    Err::<(), _>(broken("the cause"))
                });
                let _held = census.enter();
                pending::<io::Result<()>>().await
            })
            .await;
        assert_eq!(ended.unwrap_err().to_string(), "the cause");
        assert!(census.is_empty());
        no_tasks().await;
    });
}

/// The body is told of the end of a task in the very poll in which it ends itself.
#[test]
fn a_body_that_ends_at_once_does_not_hide_the_cause() {
    let [_, runtime] = runtimes();
    for ends_well in [false, true] {
        // This thread polls the body and runs no tasks, which others do.
        let ended: io::Result<()> = runtime.block_on(async {
            scope()
                .with(async |scope: &mut Scope<io::Error>| {
                    let task = scope.spawn(async { Err::<(), _>(broken("the cause")) });
                    let start = std::time::Instant::now();
                    while !task.is_finished() {
                        assert!(start.elapsed() < PATIENCE, "nobody runs it");
                        std::thread::yield_now();
                    }
                    assert_eq!(task.await, Err(ChildError::Failed));
                    if ends_well {
                        Ok(())
                    } else {
                        Err(broken("an echo"))
                    }
                })
                .await
        });
        assert_eq!(ended.unwrap_err().to_string(), "the cause");
    }
}

#[test]
fn a_failure_is_known_to_the_scope_when_its_handle_tells_it() {
    on_both_runtimes(|| async {
        let guard = scope::<io::Error>().await.unwrap();
        let task = guard.spawn(async { Err::<(), _>(broken("the cause")) });
        assert_eq!(task.await, Err(ChildError::Failed));
        assert!(guard.is_cancelled());
        assert_eq!(guard.failures(), 1);
        guard.cancelled().await;
        assert_eq!(guard.exit().await.unwrap_err().to_string(), "the cause");
    });
}

#[test]
fn a_body_that_fails_cancels_the_tasks() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let ended = scope::<io::Error>()
            .with(async |scope| {
                scope.spawn(forever(census.enter()));
                yield_now().await;
                Err::<(), _>(broken("of the body"))
            })
            .await;
        assert_eq!(ended.unwrap_err().to_string(), "of the body");
        assert!(census.is_empty());
    });
}

/// The teardown has to wait for its turn, and the tasks don't get this time.
#[test]
fn a_body_that_fails_cancels_the_tasks_before_any_teardown_is_waited_for() {
    #[actxmgr]
    async fn slow_to_leave(census: Arc<Census>) -> Always<()> {
        yield_().await;
        sleep(Duration::from_secs(1)).await;
        assert!(census.is_empty(), "a task is still there");
    }

    on_both_runtimes(|| async {
        let census = Arc::new(Census::default());
        let ended = scope::<io::Error>()
            .with(async |scope| {
                scope.spawn(forever(census.enter()));
                yield_now().await;
                let _guard = slow_to_leave(Arc::clone(&census)).await;
                Err::<(), _>(broken("of the body"))
            })
            .await;
        assert_eq!(ended.unwrap_err().to_string(), "of the body");
        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
    });
}

#[test]
fn the_panic_of_a_task_goes_on_in_the_caller() {
    on_both_runtimes(|| async {
        let census = Arc::new(Census::default());
        let others = Arc::clone(&census);
        let caller = tokio::spawn(async move {
            scope::<io::Error>()
                .with(async |scope| {
                    scope.spawn(forever(others.enter()));
                    let bad = scope.spawn(panicking(7));
                    assert_eq!(bad.await, Err(ChildError::Panicked));
                    pending::<io::Result<()>>().await
                })
                .await
        });
        let panic = caller.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "number 7");
        assert!(census.is_empty(), "it went on before all had ended");
    });
}

struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[test]
fn the_panic_of_a_destructor_is_one_of_its_task() {
    on_both_runtimes(|| async {
        for at_the_end in [true, false] {
            let caller = tokio::spawn(async move {
                scope::<io::Error>()
                    .with(async |scope| {
                        let started = Arc::new(Notify::new());
                        let start = Arc::clone(&started);
                        scope.spawn(async move {
                            let _bad = Bad;
                            start.notify_one();
                            if !at_the_end {
                                pending::<()>().await;
                            }
                        });
                        started.notified().await;
                        scope.cancel();
                        Ok::<_, io::Error>(())
                    })
                    .await
            });
            let panic = caller.await.unwrap_err().into_panic();
            assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "in a destructor");
        }
    });
}

#[test]
fn the_panic_of_the_body_goes_on_when_all_have_ended() {
    on_both_runtimes(|| async {
        let census = Arc::new(Census::default());
        let others = Arc::clone(&census);
        let caller = tokio::spawn(async move {
            scope::<io::Error>()
                .with(async |scope| {
                    scope.spawn(forever(others.enter()));
                    yield_now().await;
                    panic!("of the body");
                    #[allow(unreachable_code)]
                    Ok::<(), io::Error>(())
                })
                .await
        });
        let panic = caller.await.unwrap_err().into_panic();
        assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "of the body");
        assert!(census.is_empty());
    });
}

#[test]
fn with_ignore_tasks_fail_alone() {
    on_both_runtimes(|| async {
        let ended = scope::<io::Error>()
            .on_failure(Ignore)
            .with(async |scope| {
                let failed = scope.spawn(async { Err::<(), _>(broken("alone")) });
                let panicked = scope.spawn(panicking(7));
                assert_eq!(failed.await, Err(ChildError::Failed));
                assert_eq!(panicked.await, Err(ChildError::Panicked));
                let after = scope.spawn(async { Ok(1) });
                assert_eq!(scope.failures(), 2);
                assert!(!scope.is_cancelled());
                Ok::<_, io::Error>(after.await?)
            })
            .await;
        assert_eq!(ended.unwrap(), 1);
    });
}

#[test]
fn cancel_asks_then_aborts_and_fails_nobody() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let start = Instant::now();
        let ended = scope::<io::Error>()
            .grace(Duration::from_millis(200))
            .with(async |scope| {
                let cancelled = scope.cancelled();
                let polite = scope.spawn(async move {
                    cancelled.await;
                    yield_now().await;
                    Ok("goodbye")
                });
                let deaf = scope.spawn(forever(census.enter()));
                yield_now().await;
                scope.cancel();
                scope.cancel();
                assert!(scope.is_cancelled());
                assert_eq!(
                    scope.spawn(forever(census.enter())).await,
                    Err(ChildError::Cancelled)
                );
                assert_eq!(polite.await, Ok("goodbye"));
                assert_eq!(census.len(), 1, "it has its grace");
                assert_eq!(deaf.await, Err(ChildError::Cancelled));
                assert!(start.elapsed() >= Duration::from_millis(200));
                Ok::<_, io::Error>("the body goes on")
            })
            .await;
        assert_eq!(ended.unwrap(), "the body goes on");
    });
}

#[test]
fn an_error_while_it_ends_is_the_scopes() {
    on_both_runtimes(|| async {
        let ended = scope::<io::Error>()
            .grace(PATIENCE)
            .with(async |scope| {
                let cancelled = scope.cancelled();
                scope.spawn(async move {
                    cancelled.await;
                    Err::<(), _>(broken("no goodbye"))
                });
                scope.cancel();
                Ok::<_, io::Error>(())
            })
            .await;
        assert_eq!(ended.unwrap_err().to_string(), "no goodbye");
    });
}

#[test]
fn a_deadline_bounds_the_whole() {
    let [paused, _] = runtimes();
    paused.block_on(async {
        for (body_waits, grace) in [(true, 0), (false, 0), (true, 2), (false, 2)] {
            let census = &Census::default();
            let start = Instant::now();
            let ended = scope::<io::Error>()
                .deadline(Duration::from_secs(10))
                .grace(Duration::from_secs(grace))
                .with(async |scope| {
                    scope.spawn(forever(census.enter()));
                    if body_waits {
                        pending::<()>().await;
                    }
                    Ok::<_, io::Error>(())
                })
                .await;
            let error = ended.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(
                error.to_string(),
                "the tasks of `scope` took longer than 10s"
            );
            let took = start.elapsed();
            let expected = Duration::from_secs(10 + grace);
            assert!(
                took >= expected && took < expected + Duration::from_millis(10),
                "{took:?}"
            );
            assert!(census.is_empty());
            no_tasks().await;
        }
    });
}

#[test]
fn a_deadline_that_is_kept_leaves_nothing_behind() {
    on_both_runtimes(|| async {
        let ended = scope::<io::Error>()
            .deadline(Duration::from_secs(3600))
            .grace(Duration::from_secs(3600))
            .with(async |scope| Ok::<_, io::Error>(scope.spawn(async { Ok(5) }).await?))
            .await;
        assert_eq!(ended.unwrap(), 5);
        no_tasks().await;
    });
}

#[test]
fn the_holder_of_a_guard_is_told() {
    on_both_runtimes(|| async {
        let guard = scope::<io::Error>()
            .deadline(Duration::from_millis(50))
            .await
            .unwrap();
        let task = guard.spawn(async { pending::<io::Result<()>>().await });
        guard.cancelled().await;
        assert_eq!(task.await, Err(ChildError::Cancelled));
        let error = guard.exit().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn cancelled_ends_with_the_scope() {
    on_both_runtimes(|| async {
        let guard = scope::<io::Error>().await.unwrap();
        let outside = guard.clone();
        let cancelled = tokio::spawn(outside.cancelled());
        guard.spawn(async {});
        guard.exit().await.unwrap();
        cancelled.await.unwrap();
        outside.cancelled().await;
    });
}

#[test]
fn tasks_spawn_into_their_own_scope() {
    /// Each spawns the next one and ends.
    fn chain(scope: Scope<io::Error>, left: usize, ended: Arc<AtomicUsize>) {
        scope.clone().spawn(async move {
            yield_now().await;
            if left > 1 {
                chain(scope, left - 1, Arc::clone(&ended));
            }
            ended.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    }
    on_both_runtimes(|| async {
        let ended = &Arc::new(AtomicUsize::new(0));
        scope()
            .with(async |scope| {
                chain(scope.clone(), 1000, Arc::clone(ended));
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(ended.load(Ordering::Relaxed), 1000);
        no_tasks().await;
    });
}

#[test]
fn a_task_that_spawns_when_its_scope_is_cancelled_gets_a_cancelled_one() {
    on_both_runtimes(|| async {
        let seen = &Arc::new(Mutex::new(None));
        scope::<io::Error>()
            .grace(PATIENCE)
            .with(async |scope| {
                let (own, seen) = (scope.clone(), Arc::clone(seen));
                scope.spawn(async move {
                    own.cancelled().await;
                    let late = own.spawn(async { Ok(1) }).await;
                    *seen.lock().unwrap() = Some(late);
                });
                scope.cancel();
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(Err(ChildError::Cancelled)));
    });
}

#[test]
fn an_ended_scope_spawns_nothing() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let guard = scope::<io::Error>().await.unwrap();
        let ended = guard.clone();
        guard.exit().await.unwrap();
        assert!(ended.is_cancelled());
        assert!(ended.is_empty());

        let mut task = ended.spawn(forever(census.enter()));
        assert!(census.is_empty(), "its future is dropped");
        assert!(task.is_finished());
        let another = ended.spawn_value(async { 1 });
        assert_ne!(task.id(), another.id());
        task.abort();
        assert_eq!((&mut task).await, Err(ChildError::Cancelled));
        assert_eq!(another.await, Err(ChildError::Cancelled));

        let held = census.enter();
        let future = ended
            .try_spawn(async move {
                drop(held);
                Ok(3)
            })
            .unwrap_err();
        assert_eq!(census.len(), 1);
        assert_eq!(future.await.unwrap(), 3);
        no_tasks().await;
    });
}

#[test]
fn try_spawn_spawns() {
    on_both_runtimes(|| async {
        let guard = scope::<io::Error>().await.unwrap();
        let task = guard
            .try_spawn(async { Ok(3) })
            .unwrap_or_else(|_| panic!());
        assert_eq!(task.await, Ok(3));
        guard.exit().await.unwrap();
    });
}

#[test]
fn an_abort_ends_one_task_alone() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let ended = scope()
            .with(async |scope| {
                let other = scope.spawn(async {
                    sleep(Duration::from_millis(20)).await;
                    Ok(2)
                });
                let task = scope.spawn(forever(census.enter()));
                assert_eq!(scope.len(), 2);
                task.abort();
                assert_eq!(task.await, Err(ChildError::Cancelled));
                assert!(census.is_empty());
                Ok::<_, io::Error>(other.await?)
            })
            .await;
        assert_eq!(ended.unwrap(), 2);
    });
}

#[test]
fn a_handle_that_is_dropped_does_nothing() {
    on_both_runtimes(|| async {
        let ended = &Arc::new(AtomicBool::new(false));
        scope::<io::Error>()
            .with(async |scope| {
                let done = Arc::clone(ended);
                drop(scope.spawn(async move {
                    sleep(Duration::from_millis(10)).await;
                    done.store(true, Ordering::Relaxed);
                    Ok(())
                }));
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();
        assert!(ended.load(Ordering::Relaxed));
    });
}

/// It may be a guard, whose teardown then belongs to the task.
#[test]
fn a_value_that_nobody_takes_is_dropped_by_its_task() {
    struct Noting(Arc<Mutex<Option<tokio::task::Id>>>);
    impl Drop for Noting {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = tokio::task::try_id();
        }
    }
    on_both_runtimes(|| async {
        let dropped_by = &Arc::new(Mutex::new(None));
        let id = scope::<io::Error>()
            .with(async |scope| {
                let gone = Arc::new(Notify::new());
                let value = Noting(Arc::clone(dropped_by));
                let wait = Arc::clone(&gone);
                let task = scope.spawn(async move {
                    wait.notified().await;
                    Ok(value)
                });
                let id = task.id();
                drop(task);
                gone.notify_one();
                Ok::<_, io::Error>(id)
            })
            .await
            .unwrap();
        assert_eq!(*dropped_by.lock().unwrap(), Some(id));
    });
}

#[test]
fn a_task_has_its_own_id() {
    on_both_runtimes(|| async {
        let guard = scope::<io::Error>().await.unwrap();
        let task = guard.spawn(async { Ok(tokio::task::id()) });
        let id = task.id();
        assert_eq!(task.await, Ok(id));
        guard.exit().await.unwrap();
    });
}

#[test]
fn a_hundred_thousand_tasks() {
    for runtime in runtimes() {
        for ends in ["by themselves", "by an abort", "by a failure", "by a drop"] {
            runtime.block_on(async {
                let census = &Census::default();
                let many = scope().with(async |scope| {
                    for _ in 0..100_000 {
                        let held = census.enter();
                        scope.spawn(async move {
                            if ends != "by themselves" {
                                pending::<()>().await;
                            }
                            drop(held);
                            Ok(())
                        });
                    }
                    match ends {
                        "by themselves" => {}
                        "by a drop" => yield_now().await,
                        "by an abort" => scope.cancel(),
                        _ => {
                            scope.spawn(async { Err::<(), _>(broken("one of many")) });
                        }
                    }
                    if ends == "by a drop" {
                        pending::<()>().await;
                    }
                    Ok::<_, io::Error>(())
                });
                let limit = if ends == "by a drop" {
                    Duration::from_millis(1)
                } else {
                    PATIENCE
                };
                let ended = timeout(limit, many).await;
                match ends {
                    "by a drop" => {
                        ended.unwrap_err();
                        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
                    }
                    "by a failure" => {
                        assert_eq!(ended.unwrap().unwrap_err().to_string(), "one of many");
                    }
                    _ => ended.unwrap().unwrap(),
                }
                assert!(census.is_empty(), "{} are left, ended {ends}", census.len());
                no_tasks().await;
            });
        }
    }
}

#[test]
fn a_scope_in_a_context_in_a_group() {
    #[actxmgr]
    async fn workers(census: Arc<Census>) -> io::Result<Scope<io::Error>> {
        let inner = scope().await?;
        for _ in 0..3 {
            inner.spawn(forever(census.enter()));
        }
        let (_, exit) = yield_(inner.clone()).await;
        inner.cancel();
        inner.exit_with(exit).await
    }

    on_both_runtimes(|| async {
        let census = Arc::new(Census::default());
        let members = || (0..4).map(|_| workers(Arc::clone(&census)));
        let all = group(members()).await.unwrap();
        assert_eq!(census.len(), 12);
        all.exit().await.unwrap();
        assert!(census.is_empty());
        no_tasks().await;

        let all = group(members()).await.unwrap();
        all[2].spawn(async { Err::<(), _>(broken("one of four")) });
        all[2].cancelled().await;
        assert_eq!(all.exit().await.unwrap_err().to_string(), "one of four");
        assert!(census.is_empty());
        no_tasks().await;

        drop(group(members()).await.unwrap());
        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
        assert!(census.is_empty());
        no_tasks().await;
    });
}

#[test]
fn scopes_are_members_of_groups_and_stacks() {
    on_both_runtimes(|| async {
        let (a, b) = (scope::<io::Error>(), scope::<io::Error>());
        group((a, b))
            .with(async |(a, b)| {
                let one = a.spawn(async { Ok(1) });
                let two = b.spawn(async { Ok(2) });
                assert_eq!((one.await?, two.await?), (1, 2));
                Ok::<_, io::Error>(())
            })
            .await
            .unwrap();

        let mut stack = ExitStack::new();
        let tasks = stack.enter(scope::<io::Error>()).await.unwrap();
        let task = tasks.spawn(async { Err::<(), _>(broken("in a stack")) });
        assert_eq!(task.await, Err(ChildError::Failed));
        let errors = stack.exit().await.unwrap_err();
        assert_eq!(
            errors.to_string(),
            "the teardown of `scope` failed: in a stack"
        );
    });
}

#[test]
fn a_guard_is_left_as_the_result_says() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let guard = scope::<io::Error>().await.unwrap();
        guard.spawn(forever(census.enter()));
        let failed: io::Result<()> = guard.exit_as(Err(broken("of the holder"))).await;
        assert_eq!(failed.unwrap_err().to_string(), "of the holder");
        assert!(census.is_empty());

        let guard = scope::<io::Error>().await.unwrap();
        guard.spawn(forever(census.enter()));
        guard.exit_with(Exit::Cancelled).await.unwrap();
        assert!(census.is_empty());
    });
}

/// The teardown is dropped half-way, while it waits for tasks that go on by themselves.
#[test]
fn a_wait_that_is_dropped_cancels_the_tasks() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let ended = scope::<io::Error>().with(async |scope| {
            scope.spawn(forever(census.enter()));
            Ok::<_, io::Error>(())
        });
        timeout(Duration::from_millis(10), ended).await.unwrap_err();
        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
        assert!(census.is_empty());
        no_tasks().await;

        let guard = scope::<io::Error>().await.unwrap();
        guard.spawn(forever(census.enter()));
        let exit = timeout(Duration::from_millis(10), guard.exit());
        exit.await.unwrap_err();
        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
        assert!(census.is_empty());
    });
}

#[test]
fn a_dropped_scope_gives_its_tasks_their_grace() {
    on_both_runtimes(|| async {
        let said = Arc::new(AtomicBool::new(false));
        let saying = &said;
        let dropped = scope::<io::Error>().grace(PATIENCE).with(async |scope| {
            let (cancelled, said) = (scope.cancelled(), Arc::clone(saying));
            scope.spawn(async move {
                cancelled.await;
                sleep(Duration::from_millis(10)).await;
                said.store(true, Ordering::Relaxed);
            });
            pending::<io::Result<()>>().await
        });
        timeout(Duration::from_millis(10), dropped)
            .await
            .unwrap_err();
        assert!(!said.load(Ordering::Relaxed));
        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
        assert!(said.load(Ordering::Relaxed));
        no_tasks().await;
    });
}

#[test]
fn a_teardown_that_is_given_up_leaves_no_task_behind() {
    on_both_runtimes(|| async {
        let census = &Census::default();
        let ended = scope::<io::Error>()
            .grace(PATIENCE)
            .teardown_timeout(Duration::from_millis(20))
            .with(async |scope| {
                scope.spawn(forever(census.enter()));
                yield_now().await;
                scope.cancel();
                Ok::<_, io::Error>(())
            })
            .await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        while !census.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_scope_that_is_dropped_outside_a_runtime_ends_on_its_own() {
    for runtime in runtimes() {
        let census = Census::default();
        let guard = runtime.block_on(async {
            let guard = scope::<io::Error>().await.unwrap();
            guard.spawn(forever(census.enter()));
            yield_now().await;
            guard
        });
        let tasks = guard.clone();
        std::thread::spawn(move || drop(guard)).join().unwrap();
        assert_eq!(
            catch_unwind(AssertUnwindSafe(|| tasks
                .spawn(forever(census.enter()))
                .is_finished()))
            .ok(),
            Some(true)
        );
        runtime.block_on(async {
            assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
            assert!(census.is_empty());
            no_tasks().await;
        });
    }
}

#[test]
fn tasks_run_on_the_runtime_of_their_scope() {
    let [one, two] = runtimes();
    let guard = one.block_on(scope::<io::Error>().into_future()).unwrap();
    let of = |runtime: &tokio::runtime::Runtime| runtime.handle().id();
    let inside = two.enter();
    let task = guard.spawn(async { Ok(tokio::runtime::Handle::current().id()) });
    drop(inside);
    assert_eq!(one.block_on(task), Ok(of(&one)));
    let plain = guard.spawn(async { Ok(tokio::runtime::Handle::current().id()) });
    assert_eq!(one.block_on(plain), Ok(of(&one)));
    two.block_on(async { assert!(!guard.is_cancelled()) });
    one.block_on(guard.exit()).unwrap();
}

#[test]
fn a_scope_that_was_entered_outside_a_runtime_spawns_where_it_is_called() {
    let mut entering = Box::pin(scope::<io::Error>().into_future());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Ok(guard)) = entering.as_mut().poll(&mut cx) else {
        panic!("a scope is entered at once");
    };
    let outside = catch_unwind(AssertUnwindSafe(|| guard.spawn(async {})));
    assert!(outside.is_err(), "there is no runtime");
    for runtime in runtimes() {
        let task = runtime.block_on(async { guard.spawn(async { Ok(1) }).await });
        assert_eq!(task, Ok(1));
    }
    let [runtime, _] = runtimes();
    runtime.block_on(guard.exit()).unwrap();
}

#[test]
fn a_runtime_that_ends_takes_its_tasks_along() {
    for runtime in runtimes() {
        let census = Arc::new(Census::default());
        let (send, receive) = std::sync::mpsc::channel();
        let guard = runtime.block_on(async {
            // One whose body is dropped with its task.
            let held = Arc::clone(&census);
            let (told, hear) = oneshot::channel();
            tokio::spawn(async move {
                scope::<io::Error>()
                    .with(async |scope| {
                        scope.spawn(forever(held.enter()));
                        told.send(scope.clone()).unwrap();
                        pending::<io::Result<()>>().await
                    })
                    .await
            });
            send.send(hear.await.unwrap()).unwrap();
            // One whose guard outlives the runtime.
            let guard = scope::<io::Error>().await.unwrap();
            guard.spawn(forever(census.enter()));
            yield_now().await;
            guard
        });
        let inner = receive.recv().unwrap();
        drop(runtime);
        assert!(census.is_empty());
        // What is spawned now is dropped unpolled.
        assert!(guard.spawn(forever(census.enter())).is_finished());
        assert!(inner.spawn(forever(census.enter())).is_finished());
        assert!(census.is_empty());
        let late = guard.spawn(async { Ok(1) });
        let [another, _] = runtimes();
        assert_eq!(another.block_on(late), Err(ChildError::Cancelled));
        drop(guard);
    }
}

#[test]
fn a_scope_may_end_where_its_runtime_has() {
    for runtime in runtimes() {
        let guard = runtime.block_on(async {
            let guard = scope::<io::Error>().await.unwrap();
            guard.spawn(async { pending::<io::Result<()>>().await });
            guard
        });
        drop(runtime);
        let [another, _] = runtimes();
        another.block_on(guard.exit()).unwrap();
    }
}

#[test]
fn local_tasks_need_not_be_send() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let seven = scope::<io::Error>()
            .with(async |scope| {
                let shared = Rc::new(7);
                let own = Rc::clone(&shared);
                let task = scope.spawn_local(async move {
                    yield_now().await;
                    Ok(own)
                });
                let value = task.await?;
                let stuck = scope.spawn_local(async move {
                    let _held = shared;
                    pending::<()>().await;
                });
                stuck.abort();
                assert_eq!(stuck.await, Err(ChildError::Cancelled));
                Ok::<_, io::Error>(*value)
            })
            .await;
        assert_eq!(seven.unwrap(), 7);

        let failed = scope::<io::Error>()
            .with(async |scope| {
                scope.spawn_local(async { Err::<Rc<()>, _>(broken("a local one")) });
                pending::<io::Result<()>>().await
            })
            .await;
        assert_eq!(failed.unwrap_err().to_string(), "a local one");
    });
    runtime.block_on(no_tasks());
    // Without a `LocalSet` it panics, and the scope doesn't wait for what never was.
    runtime.block_on(async {
        let guard = scope::<io::Error>().await.unwrap();
        let outside = catch_unwind(AssertUnwindSafe(|| guard.spawn_local(async {})));
        assert!(outside.is_err());
        guard.exit().await.unwrap();
    });
}

#[test]
fn options_are_for_scopes_alone() {
    #[actxmgr]
    async fn looks_like_one() -> io::Result<Scope<io::Error>> {
        let inner = scope().await?;
        yield_(inner.clone()).await;
        inner.exit().await
    }
    let refused = catch_unwind(|| looks_like_one().grace(Duration::from_secs(1)));
    assert!(refused.is_err());
}

#[test]
fn errors_of_handles_convert() {
    let error: io::Error = ChildError::Failed.into();
    assert_eq!(error.to_string(), "the task failed");
    let error: Box<dyn Error + Send + Sync> = ChildError::Cancelled.into();
    assert_eq!(error.to_string(), "the task was cancelled");
    let error: Box<dyn Error> = ChildError::Panicked.into();
    assert_eq!(error.to_string(), "the task panicked");
}

#[test]
fn errors_need_only_be_displayed() {
    #[derive(Debug)]
    struct Plain(&'static str);
    impl std::fmt::Display for Plain {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }
    on_both_runtimes(|| async {
        let ended: Result<(), Plain> = scope()
            .with(async |scope| {
                scope.spawn(async { Err::<(), _>(Plain("no error type")) });
                pending().await
            })
            .await;
        assert_eq!(ended.unwrap_err().0, "no error type");
        let boxed: Result<(), Box<dyn Error + Send + Sync>> = scope()
            .with(async |scope| {
                scope.spawn(async { Err::<(), Box<dyn Error + Send + Sync>>("boxed".into()) });
                pending().await
            })
            .await;
        assert_eq!(boxed.unwrap_err().to_string(), "boxed");
    });
}

#[test]
fn types_go_where_they_are_needed() {
    fn send<T: Send + 'static>() {}
    fn sync<T: Sync>() {}
    fn unpin<T: Unpin>() {}
    // An error that is not `Sync`.
    type Odd = Box<dyn Error + Send>;
    send::<Scope<Odd>>();
    sync::<Scope<Odd>>();
    send::<Enterable<Result<Scope<Odd>, Odd>>>();
    send::<Guard<Result<Scope<Odd>, Odd>>>();
    sync::<Guard<Result<Scope<Odd>, Odd>>>();
    send::<ScopedTask<std::cell::Cell<u8>>>();
    unpin::<ScopedTask<std::marker::PhantomPinned>>();
    sync::<ChildError>();
    send::<Elapsed>();
}

/// Threads that spawn, fail, cancel and leave at the same time.
#[test]
fn all_at_once() {
    let [_, runtime] = runtimes();
    runtime.block_on(async {
        for round in 0..200_usize {
            let census = Arc::new(Census::default());
            let guard = scope::<io::Error>().await.unwrap();
            let start = Arc::new(Barrier::new(5));
            let outside: Vec<_> = (0..4_usize)
                .map(|own| {
                    let (tasks, start) = (guard.clone(), Arc::clone(&start));
                    let census = Arc::clone(&census);
                    tokio::spawn(async move {
                        start.wait().await;
                        for number in 0..50_usize {
                            let held = census.enter();
                            let task = tasks.spawn(async move {
                                yield_now().await;
                                drop(held);
                                if round % 2 == 0 && number == 40 {
                                    return Err(broken("one of many"));
                                }
                                Ok(number)
                            });
                            if own == 0 && number == 20 && round % 3 == 0 {
                                tasks.cancel();
                            }
                            if own == 1 {
                                drop(task);
                            } else if own == 2 {
                                task.abort();
                            } else if let Ok(value) = task.await {
                                assert_eq!(value, number);
                            }
                        }
                    })
                })
                .collect();
            start.wait().await;
            match round % 5 {
                0 => drop(guard),
                1 => drop(guard.exit_with(Exit::Cancelled)),
                2 => {
                    let _ = guard.exit_with(Exit::Cancelled).await;
                }
                _ => {
                    let _ = guard.exit().await;
                }
            }
            for task in outside {
                task.await.unwrap();
            }
            assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
            assert!(census.is_empty());
            no_tasks().await;
        }
    });
}

/// A future that is polled by hand, to see what `with` does in a single poll.
#[test]
fn a_body_is_not_polled_any_more_once_a_task_has_failed() {
    let [runtime, _] = runtimes();
    runtime.block_on(async {
        let polls = &AtomicUsize::new(0);
        let mut ended: Pin<Box<dyn Future<Output = io::Result<()>> + '_>> =
            Box::pin(scope().with(async |scope| {
                scope.spawn(async { Err::<(), _>(broken("the cause")) });
                std::future::poll_fn(|_| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    Poll::Pending
                })
                .await
            }));
        let error = std::future::poll_fn(|cx| ended.as_mut().poll(cx))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "the cause");
        assert_eq!(polls.load(Ordering::Relaxed), 1);
    });
}

/// An error that holds a lock.
#[derive(Debug)]
struct Holding(
    &'static str,
    #[allow(dead_code)] Option<OwnedMutexGuard<()>>,
);

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[actxmgr]
async fn locking_at_its_end(lock: Arc<AsyncMutex<()>>) -> Always<()> {
    yield_().await;
    drop(lock.lock().await);
}

#[test]
fn the_error_of_an_interrupted_body_holds_nothing_while_tasks_end() {
    let [_, runtime] = runtimes();
    let lock = Arc::new(AsyncMutex::new(()));
    let entered = Arc::new(Notify::new());
    let work = scope::<Holding>().with(async |scope| {
        let held = Arc::clone(&lock).lock_owned().await;
        let (context, told) = (locking_at_its_end(Arc::clone(&lock)), Arc::clone(&entered));
        scope.spawn(async move {
            let _guard = context.await;
            told.notify_one();
            pending::<()>().await;
        });
        entered.notified().await;
        scope.spawn(async { Err::<(), _>(Holding("of a task", None)) });
        // The task fails while the body is being polled.
        let start = std::time::Instant::now();
        while !scope.is_cancelled() {
            assert!(start.elapsed() < PATIENCE, "the task doesn't fail");
            std::thread::yield_now();
        }
        Err::<(), _>(Holding("of the body", Some(held)))
    });
    let error = runtime.block_on(async { timeout(PATIENCE, work).await.expect("it hangs") });
    assert_eq!(error.unwrap_err().0, "of a task");
}

#[actxmgr]
async fn slow_at_its_end(left: Arc<AtomicBool>) -> Always<()> {
    yield_().await;
    sleep(Duration::from_millis(20)).await;
    left.store(true, Ordering::SeqCst);
}

#[test]
fn a_body_that_panics_as_it_is_cut_off_waits_for_the_tasks() {
    on_both_runtimes(|| async {
        let left = Arc::new(AtomicBool::new(false));
        let context = slow_at_its_end(Arc::clone(&left));
        let caller = tokio::spawn(async move {
            scope::<io::Error>()
                .with(async |scope| {
                    let _bad = Bad;
                    let entered = Arc::new(Notify::new());
                    let enter = Arc::clone(&entered);
                    scope.spawn(async move {
                        let _guard = context.await;
                        enter.notify_one();
                        pending::<()>().await;
                    });
                    entered.notified().await;
                    scope.spawn(async { Err::<(), _>(broken("of a task")) });
                    pending::<io::Result<()>>().await
                })
                .await
        });
        let panic = caller.await.unwrap_err().into_panic();
        assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "in a destructor");
        assert!(left.load(Ordering::SeqCst), "it was left behind");
    });
}
