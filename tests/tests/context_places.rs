//! Teardowns are ordered within places: what has to wait does, and what needn't doesn't.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Always, Exit, ExitStack, Guard, actxmgr, drain, group, settle};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::runtime::{self, Handle};
use tokio::sync::Notify;
use tokio::task::{LocalSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn push(&self, entry: &'static str) {
        self.0.lock().unwrap().push(entry);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Says goodbye for a while.
#[actxmgr]
async fn peer(log: Log, name: &'static str, goodbye: Duration) -> io::Result<&'static str> {
    let (name, _exit) = yield_(name).await;
    sleep(goodbye).await;
    log.push(name);
    Ok(())
}

async fn long(log: &Log) -> Guard<io::Result<&'static str>> {
    peer(log.clone(), "long", LONG).await.unwrap()
}

async fn short(log: &Log) -> Guard<io::Result<&'static str>> {
    peer(log.clone(), "short", SHORT).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn branches_of_a_join_dont_wait_for_each_others_goodbyes() {
    let log = Log::default();
    let visit = |name, work: u64, goodbye| {
        let visit = peer(log.clone(), name, goodbye).with(async move |_| {
            sleep(Duration::from_millis(work)).await;
            Ok::<_, io::Error>(())
        });
        timeout(Duration::from_secs(1), visit)
    };
    let dead = timeout(SHORT, visit("dead", 5_000, LONG));
    let (healthy, dead) = tokio::join!(
        join_all(["a", "b", "c"].map(|name| visit(name, 70, SHORT))),
        dead
    );
    assert!(dead.is_err());
    assert!(healthy.iter().all(|ended| matches!(ended, Ok(Ok(())))));
    assert_eq!(log.take().len(), 3);
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["dead"]);
}

#[tokio::test(start_paused = true)]
async fn a_buffered_stream_goes_on_beside_a_dropped_guard() {
    let log = Log::default();
    let started = Instant::now();
    let ended: Vec<Duration> = stream::iter(0..4)
        .map(|n| {
            let log = log.clone();
            async move {
                if n == 0 {
                    // Entered last, so that the others would have it inside them.
                    sleep(Duration::from_millis(5)).await;
                    drop(long(&log).await);
                } else {
                    let guard = short(&log).await;
                    sleep(SHORT).await;
                    guard.exit().await.unwrap();
                }
                started.elapsed()
            }
        })
        .buffer_unordered(4)
        .collect()
        .await;
    assert!(
        ended.iter().all(|end| *end < Duration::from_millis(100)),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_exit_under_a_lock_doesnt_wait_for_a_teardown_that_takes_it() {
    #[actxmgr]
    async fn locking(lock: Arc<tokio::sync::Mutex<()>>) {
        yield_().await;
        let _held = lock.lock().await;
    }
    let log = Log::default();
    let lock = Arc::new(tokio::sync::Mutex::new(()));
    let both = async {
        tokio::join!(
            async {
                let guard = short(&log).await;
                let _held = lock.lock().await;
                sleep(SHORT).await;
                guard.exit().await.unwrap();
            },
            async {
                sleep(Duration::from_millis(5)).await;
                drop(locking(Arc::clone(&lock)).await);
            }
        )
    };
    timeout(DEADLINE, both).await.expect("no deadlock");
}

#[actxmgr]
async fn locks_to_end(log: Log, lock: Arc<tokio::sync::Mutex<()>>, name: &'static str) {
    yield_().await;
    let _held = lock.lock().await;
    sleep(SHORT).await;
    log.push(name);
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_is_cut_goes_on_before_a_teardown_that_may_need_what_it_holds() {
    let log = Log::default();
    let lock = Arc::new(tokio::sync::Mutex::new(()));
    let outer = locks_to_end(log.clone(), Arc::clone(&lock), "outer").await;
    let inner = locks_to_end(log.clone(), lock, "inner").await;
    let mut exit = Box::pin(outer.exit());
    assert!(
        futures_util::poll!(&mut exit).is_pending(),
        "it holds the lock"
    );
    drop(inner);
    drop(exit);
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
    assert_eq!(log.take(), ["outer", "inner"]);
}

#[tokio::test(start_paused = true)]
async fn a_setup_that_is_finished_goes_on_before_a_teardown_that_may_need_what_it_holds() {
    #[actxmgr(finish_setup)]
    async fn holding(log: Log, lock: Arc<tokio::sync::Mutex<()>>) {
        {
            let _held = lock.lock().await;
            drop(locks_to_end(log.clone(), Arc::clone(&lock), "dropped").await);
            sleep(SHORT).await;
        }
        yield_().await;
        log.push("holding");
    }
    let log = Log::default();
    let mut setup = Box::pin(holding(log.clone(), Arc::default()).into_future());
    assert!(
        futures_util::poll!(&mut setup).is_pending(),
        "it holds the lock"
    );
    drop(setup);
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
    assert_eq!(log.take(), ["dropped", "holding"]);
}

#[actxmgr]
async fn fails_over_an_inner(log: Log, how: &'static str) -> io::Result<()> {
    let _inner = long(&log).await;
    yield_().await;
    match how {
        "panics" => panic!("outer"),
        "stays" => std::future::pending().await,
        _ => Err(io::Error::other("outer")),
    }
}

#[tokio::test(start_paused = true)]
async fn a_teardown_that_fails_ends_when_what_it_has_dropped_has() {
    let log = Log::default();
    let outer = fails_over_an_inner(log.clone(), "fails").await.unwrap();
    assert_eq!(outer.exit().await.unwrap_err().to_string(), "outer");
    assert_eq!(log.take(), ["long"]);

    let outer = fails_over_an_inner(log.clone(), "panics").await.unwrap();
    let panicked = tokio::spawn(outer.exit()).await.unwrap_err();
    assert!(panicked.is_panic());
    assert_eq!(log.take(), ["long"]);

    let outer = fails_over_an_inner(log.clone(), "stays").teardown_timeout(SHORT);
    let late = outer.await.unwrap().exit().await.unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    assert_eq!(log.take(), ["long"]);
}

#[tokio::test(start_paused = true)]
async fn a_detached_teardown_that_fails_ends_when_what_it_has_dropped_has() {
    for how in ["fails", "panics"] {
        let log = Log::default();
        let around = short(&log).await;
        drop(fails_over_an_inner(log.clone(), how).await.unwrap());
        drop(around);
        assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
        assert_eq!(log.take(), ["long", "short"], "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_is_cancelled_after_its_function_reports_its_error() {
    let log = Log::default();
    let outer = fails_over_an_inner(log.clone(), "fails").await.unwrap();
    let before = aioxide::teardown::stats();
    assert!(timeout(SHORT, outer.exit()).await.is_err());
    settle().await;
    assert_eq!(log.take(), ["long"]);
    let detached = aioxide::teardown::stats().detached - before.detached;
    assert!(detached >= 1, "the inner one");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_body_waits_for_what_the_body_has_dropped() {
    let log = Log::default();
    let outer = peer(log.clone(), "outer", SHORT).with(async |_| {
        drop(long(&log).await);
        Ok::<_, io::Error>(())
    });
    outer.await.unwrap();
    assert_eq!(log.take(), ["long", "outer"]);

    let outer = peer(log.clone(), "outer", SHORT).with(async |_| {
        drop(long(&log).await);
        Err::<(), _>(io::Error::other("enough"))
    });
    outer.await.unwrap_err();
    assert_eq!(log.take(), ["long", "outer"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_with_waits_for_what_its_body_has_given_away() {
    let log = Log::default();
    let given_away = Mutex::new(None);
    let outer = peer(log.clone(), "outer", LONG).with(async |_| {
        *given_away.lock().unwrap() = Some(peer(log.clone(), "inner", LONG).await?);
        Ok::<_, io::Error>(())
    });
    let dropped_meanwhile = async {
        sleep(SHORT).await;
        drop(given_away.lock().unwrap().take());
    };
    let (ended, ()) = tokio::join!(outer, dropped_meanwhile);
    ended.unwrap();
    assert_eq!(log.take(), ["outer", "inner"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_body_waits_for_nothing_outside() {
    let log = Log::default();
    let (_, outer) = tokio::join!(
        async {
            sleep(Duration::from_millis(5)).await;
            drop(long(&log).await);
        },
        peer(log.clone(), "outer", SHORT).with(async |_| {
            sleep(Duration::from_millis(50)).await;
            Err::<(), _>(io::Error::other("enough"))
        })
    );
    outer.unwrap_err();
    assert_eq!(log.take(), ["outer"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_exit_settles_the_place_it_is_in() {
    async fn work(log: &Log) -> io::Result<()> {
        let _connection = long(log).await;
        Err(io::Error::other("lost"))
    }
    let log = Log::default();
    let pool = peer(log.clone(), "pool", SHORT).await.unwrap();
    let result = work(&log).await;
    pool.exit_as(result).await.unwrap_err();
    assert_eq!(log.take(), ["long", "pool"]);

    let pool = peer(log.clone(), "pool", SHORT).await.unwrap();
    work(&log).await.unwrap_err();
    pool.exit_with(Exit::Failed("lost".to_owned()))
        .await
        .unwrap();
    assert_eq!(log.take(), ["long", "pool"]);

    let mut stack = ExitStack::new();
    stack.enter(peer(log.clone(), "pool", SHORT)).await.unwrap();
    work(&log).await.unwrap_err();
    stack.exit_with(Exit::Cancelled).await.unwrap();
    assert_eq!(log.take(), ["long", "pool"]);
}

#[tokio::test(start_paused = true)]
async fn settling_waits_for_what_is_pending_in_the_place_and_inside_it_only() {
    let log = Log::default();
    drop(long(&log).await);
    let elsewhere = tokio::spawn({
        let log = log.clone();
        async move {
            drop(peer(log, "elsewhere", 2 * LONG).await);
        }
    });
    elsewhere.await.unwrap();
    let outer = peer(log.clone(), "outer", Duration::ZERO).with(async |_| {
        drop(short(&log).await);
        settle().await;
        assert_eq!(log.take(), ["short"], "of the body");
        drop(short(&log).await);
        Ok::<_, io::Error>(())
    });
    outer.await.unwrap();
    assert_eq!(log.take(), ["short", "outer"]);
    let outer = peer(log.clone(), "late", Duration::ZERO).await.unwrap();
    let wait = settle();
    settle().await;
    assert_eq!(log.take(), ["long"]);
    drop(outer);
    wait.await;
    assert_eq!(log.take(), ["late"], "pending when it is polled");
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["elsewhere"]);
}

#[actxmgr]
async fn settles_in_its_teardown(log: Log) -> Always<()> {
    yield_().await;
    drop(long(&log).await);
    settle().await;
    log.push("settled");
}

#[tokio::test(start_paused = true)]
async fn settling_in_a_teardown_is_for_the_contexts_own_function() {
    let log = Log::default();
    let own = settles_in_its_teardown(log.clone()).await;
    drop(peer(log.clone(), "beside", 3 * LONG).await);
    own.exit().await;
    assert_eq!(log.take(), ["long", "settled"]);
    drop(settles_in_its_teardown(log.clone()).await);
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["long", "settled", "beside"]);
}

/// Whether the body of a `with` has been waited for: it has something inside it, or not.
async fn is_inside(body: impl AsyncFnOnce(Log)) -> bool {
    let log = Log::default();
    let own = log.clone();
    let outer = peer(log.clone(), "outer", Duration::ZERO).with(async |_| {
        body(own).await;
        Ok::<_, io::Error>(())
    });
    outer.await.unwrap();
    let inside = log.take() != ["outer"];
    drain(DEADLINE).await;
    inside
}

#[tokio::test(start_paused = true)]
async fn other_tasks_dont_inherit_a_place() {
    let dropped = async |log: Log| drop(long(&log).await);
    assert!(is_inside(dropped).await, "itself");
    let joined = async |log: Log| {
        tokio::join!(async { drop(long(&log).await) }, yield_now());
    };
    assert!(is_inside(joined).await, "a branch");

    let spawned = async |log: Log| {
        tokio::spawn(async move { drop(long(&log).await) })
            .await
            .unwrap();
    };
    assert!(!is_inside(spawned).await, "a task");
    let local = async |log: Log| {
        let set = LocalSet::new();
        let task = set.spawn_local(async move { drop(long(&log).await) });
        set.run_until(task).await.unwrap();
    };
    assert!(!is_inside(local).await, "a task of a local set");
    let dropped_with_it = async |log: Log| {
        let set = LocalSet::new();
        let entered = Arc::new(Notify::new());
        let told = Arc::clone(&entered);
        set.spawn_local(async move {
            let _held = long(&log).await;
            told.notify_one();
            std::future::pending::<()>().await;
        });
        set.run_until(entered.notified()).await;
    };
    assert!(!is_inside(dropped_with_it).await, "a task that is dropped");
    let aborted = async |log: Log| {
        let entered = Arc::new(Notify::new());
        let told = Arc::clone(&entered);
        let task = tokio::spawn(async move {
            let _held = long(&log).await;
            told.notify_one();
            std::future::pending::<()>().await;
        });
        entered.notified().await;
        task.abort();
        let _ = task.await;
    };
    assert!(!is_inside(aborted).await, "a task that is aborted");
    let output = async |log: Log| {
        let task = tokio::spawn(async move { long(&log).await });
        while !task.is_finished() {
            yield_now().await;
        }
        drop(task);
    };
    assert!(!is_inside(output).await, "what a dropped handle drops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_nested_runtimes_tasks_dont_inherit_a_place() {
    let gate = Arc::new(Notify::new());
    #[actxmgr]
    async fn gated(gate: Arc<Notify>) {
        yield_().await;
        gate.notified().await;
    }
    // Nobody drives it any more once this is over: what is torn down there stays pending.
    let nested = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let outer = peer(Log::default(), "outer", Duration::ZERO).with(async |_| {
        tokio::task::block_in_place(|| {
            nested.block_on(async {
                let task = tokio::spawn(gated(Arc::clone(&gate)).into_future());
                drop(tokio::spawn(async { drop(task.await.unwrap()) }).await);
            });
        });
        Ok::<_, io::Error>(())
    });
    timeout(DEADLINE, outer)
        .await
        .expect("it isn't inside")
        .unwrap();
    tokio::task::block_in_place(|| drop(nested));
}

/// Tells on which runtime it is torn down.
#[actxmgr]
async fn at_home(seen: Arc<Mutex<Vec<runtime::Id>>>) {
    yield_().await;
    seen.lock().unwrap().push(Handle::current().id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_nested_runtimes_task_enters_is_torn_down_there() {
    let nested = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let seen: Arc<Mutex<Vec<runtime::Id>>> = Arc::default();
    let take = |seen: &Mutex<Vec<_>>| std::mem::take(&mut *seen.lock().unwrap());
    let (own, other) = (Handle::current().id(), nested.handle().id());
    let handle = nested.handle().clone();
    let outer = tokio::spawn(async move {
        let enter_and_drop = |seen| async { drop(at_home(seen).await) };
        enter_and_drop(Arc::clone(&seen)).await;
        drain(DEADLINE).await;
        assert_eq!(take(&seen), [own]);

        let task = enter_and_drop(Arc::clone(&seen));
        tokio::task::block_in_place(|| {
            handle.block_on(async {
                tokio::spawn(task).await.unwrap();
                assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
            });
        });
        assert_eq!(take(&seen), [other], "a task of the other runtime");
        enter_and_drop(Arc::clone(&seen)).await;
        drain(DEADLINE).await;
        assert_eq!(take(&seen), [own], "the task goes on where it was");

        // The task itself is of its own runtime also while it blocks on another one; see `aioxide::teardown`.
        tokio::task::block_in_place(|| handle.block_on(enter_and_drop(Arc::clone(&seen))));
        while seen.lock().unwrap().is_empty() {
            yield_now().await;
        }
        let there = take(&seen);
        assert!(there == [own] || there == [other], "{there:?}");
    });
    timeout(DEADLINE, outer).await.unwrap().unwrap();
    tokio::task::block_in_place(|| drop(nested));
}

#[tokio::test(start_paused = true)]
async fn guards_keep_the_place_they_were_entered_in_wherever_they_go() {
    let log = Log::default();
    let before = peer(log.clone(), "before", Duration::ZERO).await.unwrap();
    let moved = peer(log.clone(), "outer", Duration::ZERO)
        .with(async |_| Ok::<_, io::Error>(long(&log).await))
        .await
        .unwrap();
    let after = peer(log.clone(), "after", Duration::ZERO).await.unwrap();
    assert_eq!(log.take(), ["outer"]);
    drop(moved);
    drop(after);
    drop(before);
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["after", "long", "before"]);

    // Taken out of a group: still inside it, and beside what else was in it.
    let before = peer(log.clone(), "before", Duration::ZERO).await.unwrap();
    let members = group([
        peer(log.clone(), "first", Duration::ZERO),
        peer(log.clone(), "long", LONG),
    ]);
    let mut members = members.await.unwrap();
    let (second, first) = (members.pop().unwrap(), members.pop().unwrap());
    drop(second);
    drop(first);
    drop(before);
    timeout(DEADLINE, members.exit()).await.unwrap().unwrap();
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["first", "long", "before"]);

    // Pushed onto a stack: it is left by the stack, which was entered last.
    let pushed = long(&log).await;
    let after = peer(log.clone(), "after", Duration::ZERO).await.unwrap();
    let mut stack = ExitStack::new();
    stack.push(pushed);
    drop(stack);
    drop(after);
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["long", "after"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_setup_has_dropped_goes_before_what_was_entered_before() {
    #[actxmgr]
    async fn refused(log: Log) -> io::Result<()> {
        let _inner = long(&log).await;
        if log.0.lock().unwrap().is_empty() {
            return Err(io::Error::other("refused"));
        }
        yield_().await;
        Ok(())
    }
    let log = Log::default();
    let before = peer(log.clone(), "before", Duration::ZERO).await.unwrap();
    refused(log.clone()).await.map(drop).unwrap_err();
    drop(before);
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["long", "before"]);
}

#[tokio::test(start_paused = true)]
async fn setups_that_overlap_are_ordered_by_their_ends() {
    #[actxmgr]
    async fn slow(log: Log) {
        let _inner = peer(log.clone(), "inner", LONG).await;
        sleep(SHORT).await;
        drop(_inner);
        yield_().await;
        log.push("slow");
    }
    let log = Log::default();
    let (outer, inner) = tokio::join!(
        async {
            sleep(Duration::from_millis(5)).await;
            peer(log.clone(), "quick", Duration::ZERO).await.unwrap()
        },
        slow(log.clone())
    );
    drop(inner);
    drop(outer);
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["inner", "slow", "quick"]);
}

#[test]
fn runtimes_that_take_turns_on_a_thread_keep_their_teardowns() {
    let runtimes = [(); 2].map(|()| {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    });
    let seen: [Arc<Mutex<Vec<_>>>; 2] = Default::default();
    let enter = |which: usize| {
        let [kept, dropped] = [(); 2].map(|()| at_home(Arc::clone(&seen[which])));
        let entered = async {
            let kept = kept.await;
            drop(dropped.await);
            kept
        };
        runtimes[which]
            .block_on(async { tokio::spawn(entered).await })
            .unwrap()
    };
    let guards: Vec<_> = (0..100).map(|_| [enter(0), enter(1)]).collect();
    for [of_first, of_second] in guards {
        for (runtime, guard) in runtimes.iter().rev().zip([of_first, of_second]) {
            runtime
                .block_on(async { tokio::spawn(async { drop(guard) }).await })
                .unwrap();
        }
    }
    for (runtime, seen) in runtimes.iter().zip(&seen) {
        runtime.block_on(drain(DEADLINE));
        assert_eq!(*seen.lock().unwrap(), [runtime.handle().id(); 200]);
    }
}
