//! Groups, stacks, and the order of detached teardowns.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Always, Exit, ExitStack, actxmgr, drain, group, settle};
use tokio::runtime::Builder;
use tokio::sync::{Barrier, Notify};

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, entry: impl fmt::Display) {
        self.0.lock().unwrap().push(entry.to_string());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Waits until there are `number` entries, and takes them.
    async fn take_after(&self, number: usize) -> Vec<String> {
        let enough = async {
            while self.0.lock().unwrap().len() < number {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, enough).await.is_ok();
        let seen = self.take();
        assert!(in_time, "nothing more comes than {seen:?}");
        seen
    }
}

/// Fails to set up or to tear down if its number says so; suspends in both.
#[actxmgr]
async fn member(log: Log, number: u32, fails: &'static str) -> io::Result<u32> {
    tokio::task::yield_now().await;
    if fails == "setup" {
        return Err(io::Error::other(format!("setup of {number}")));
    }
    let (number, exit) = yield_(number).await;
    tokio::task::yield_now().await;
    log.push(format_args!("{number} {exit}"));
    if fails == "teardown" {
        return Err(io::Error::other(format!("teardown of {number}")));
    }
    if fails == "panic" {
        panic!("panic of {number}");
    }
    Ok(())
}

#[actxmgr]
async fn always(log: Log, number: u32) -> u32 {
    let (number, exit) = yield_(number).await;
    log.push(format_args!("{number} {exit}"));
}

/// Stays in its setup for ever.
#[actxmgr]
async fn stuck(log: Log) -> io::Result<u32> {
    struct Dropped(Log);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.push("stuck dropped");
        }
    }
    let _dropped = Dropped(log);
    std::future::pending::<()>().await;
    yield_(0).await;
    Ok(())
}

#[tokio::test]
async fn a_group_enters_and_exits_all() {
    let log = Log::default();
    let guards = group((0..50).map(|n| member(log.clone(), n, "")))
        .await
        .unwrap();
    assert_eq!(
        guards.iter().map(|guard| **guard).collect::<Vec<_>>(),
        (0..50).collect::<Vec<_>>()
    );
    guards.exit().await.unwrap();
    assert_eq!(log.take().len(), 50);

    let guards = group(vec![always(log.clone(), 1), always(log.clone(), 2)]).await;
    assert_eq!(*guards[1], 2);
    guards.exit_with(Exit::Failed("x".into())).await;
    assert_eq!(log.take(), ["1 failed: x", "2 failed: x"]);

    let none = group(Vec::<aioxide::Context<io::Result<u32>>>::new())
        .await
        .unwrap();
    assert!(none.is_empty());
    none.exit().await.unwrap();
}

#[tokio::test]
async fn a_member_that_fails_to_enter_tears_the_others_down_first() {
    let log = Log::default();
    let contexts = vec![
        stuck(log.clone()),
        member(log.clone(), 1, ""),
        member(log.clone(), 2, "setup"),
        member(log.clone(), 3, "teardown"),
        member(log.clone(), 4, "setup"),
    ];
    let error = group(contexts).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "setup of 2");
    let seen = log.take();
    assert!(seen.contains(&"stuck dropped".to_owned()), "{seen:?}");
    assert!(seen.contains(&"1 cancelled".to_owned()), "{seen:?}");
    assert_eq!(drain(DEADLINE).await.completed, 0, "all of it was inline");
}

#[tokio::test]
async fn all_members_exit_and_the_first_error_in_order_is_returned() {
    let log = Log::default();
    let contexts = ["", "teardown", "", "teardown"].into_iter().enumerate();
    let contexts = contexts.map(|(n, fails)| member(log.clone(), n as u32, fails));
    let guards = group(contexts.collect::<Vec<_>>()).await.unwrap();
    let error = guards.exit().await.unwrap_err();
    assert_eq!(error.to_string(), "teardown of 1");
    assert_eq!(log.take().len(), 4);
}

#[tokio::test]
async fn a_panic_in_a_group_waits_for_the_others() {
    let log = Log::default();
    let inner = log.clone();
    let task = tokio::spawn(async move {
        let guards = group([
            member(inner.clone(), 0, "panic"),
            member(inner.clone(), 1, ""),
        ])
        .await
        .unwrap();
        guards.exit().await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(log.take(), ["0 completed", "1 completed"]);
}

/// Tears down together with as many others as `barrier` is for; without one it fails to enter, after others.
#[actxmgr]
async fn meeting(barrier: Option<Arc<Barrier>>) -> io::Result<u32> {
    let Some(barrier) = barrier else {
        tokio::task::yield_now().await;
        return Err(io::Error::other("nobody to meet"));
    };
    yield_(0).await;
    barrier.wait().await;
    Ok(())
}

async fn in_time<F: IntoFuture>(future: F) -> F::Output {
    let ended = tokio::time::timeout(DEADLINE, future).await;
    ended.expect("the teardowns run one after the other")
}

#[tokio::test]
async fn members_are_torn_down_concurrently() {
    let log = Log::default();
    let of = |number| {
        let barrier = Arc::new(Barrier::new(number));
        move || meeting(Some(Arc::clone(&barrier)))
    };
    let refused = || meeting(None);

    let member = of(4);
    let guards = group((0..4).map(|_| member())).await.unwrap();
    in_time(guards.exit()).await.unwrap();
    let member = of(3);
    let guards = group((member(), member(), member())).await.unwrap();
    in_time(guards.exit()).await.unwrap();

    let member = of(3);
    let contexts = [member(), refused(), member(), member()];
    in_time(group(contexts)).await.map(drop).unwrap_err();
    let member = of(3);
    let contexts = (member(), refused(), member(), member());
    in_time(group(contexts)).await.map(drop).unwrap_err();

    let member = of(4);
    drop(group((0..4).map(|_| member())).await.unwrap());
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
    let member = of(3);
    drop(group((member(), member(), member())).await.unwrap());
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);

    let member = of(3);
    let mut entering = group([member(), stuck(log.clone()), member(), member()]).enter();
    assert!(futures_poll(&mut entering).await.is_pending());
    drop(entering);
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
    let member = of(3);
    let mut entering = group((member(), stuck(log.clone()), member(), member())).enter();
    assert!(futures_poll(&mut entering).await.is_pending());
    drop(entering);
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
}

#[tokio::test]
async fn members_taken_out_of_their_group_do_not_wait_for_each_other() {
    let log = Log::default();
    let (one, two) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut guards = group([
        gated(log.clone(), "one", Arc::clone(&one)),
        gated(log.clone(), "two", Arc::clone(&two)),
    ])
    .await;
    let mut taken = std::mem::take(&mut *guards);
    guards.exit().await;
    drop(taken.pop());
    drop(taken);
    one.notify_one();
    assert_eq!(log.take_after(1).await, ["one"]);
    two.notify_one();
    assert_eq!(log.take_after(1).await, ["two"]);
}

#[tokio::test]
async fn tuples_mix_fallible_and_infallible() {
    let log = Log::default();
    let guard = group((
        member(log.clone(), 1, ""),
        always(log.clone(), 2),
        member(log.clone(), 3, "teardown"),
    ))
    .await
    .unwrap();
    assert_eq!((*guard.0, *guard.1, *guard.2), (1, 2, 3));
    assert_eq!(guard.exit().await.unwrap_err().to_string(), "teardown of 3");
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["1 completed", "2 completed", "3 completed"]);

    let guard: aioxide::Guard<Always<_>> =
        group((always(log.clone(), 1), always(log.clone(), 2))).await;
    guard.exit().await;
    log.take();

    let failed = group((
        always(log.clone(), 1),
        member(log.clone(), 2, "setup"),
        stuck(log.clone()),
    ))
    .await;
    assert_eq!(failed.map(drop).unwrap_err().to_string(), "setup of 2");
    assert_eq!(log.take().len(), 2);

    let got = group((always(log.clone(), 1), always(log.clone(), 2)))
        .with(async |(one, two)| **one + **two)
        .await;
    assert_eq!(got, 3);
}

#[tokio::test]
async fn a_group_dropped_while_entering_detaches_those_that_had_entered() {
    let log = Log::default();
    let contexts = vec![
        member(log.clone(), 1, ""),
        stuck(log.clone()),
        member(log.clone(), 2, ""),
    ];
    let entering = tokio::time::timeout(Duration::from_millis(20), group(contexts).enter());
    assert!(entering.await.is_err());
    assert_eq!(drain(DEADLINE).await.completed, 2);
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["1 cancelled", "2 cancelled", "stuck dropped"]);
}

#[tokio::test]
async fn a_stack_is_left_last_first() {
    let log = Log::default();
    let mut stack = ExitStack::new();
    assert_eq!(stack.enter(member(log.clone(), 1, "")).await.unwrap(), 1);
    assert_eq!(stack.enter(always(log.clone(), 2)).await, 2);
    let deferred = log.clone();
    stack.defer(async move { deferred.push("deferred") });
    stack.push(group([always(log.clone(), 3)]).await);
    stack.exit().await.unwrap();
    assert_eq!(
        log.take(),
        ["3 completed", "deferred", "2 completed", "1 completed"]
    );
}

#[tokio::test]
async fn a_stack_collects_all_errors_and_goes_on_when_dropped() {
    let log = Log::default();
    let mut stack = ExitStack::new();
    stack
        .enter(member(log.clone(), 1, "teardown"))
        .await
        .unwrap();
    stack.defer(async { Err::<(), _>("deferred failed") });
    assert!(stack.enter(member(log.clone(), 9, "setup")).await.is_err());
    stack
        .enter(member(log.clone(), 2, "teardown"))
        .await
        .unwrap();
    let errors = stack.exit().await.unwrap_err();
    let texts: Vec<_> = errors
        .iter()
        .map(|(name, error)| format!("{name}: {error}"))
        .collect();
    assert_eq!(
        texts,
        [
            "member: teardown of 2",
            "deferred future: deferred failed",
            "member: teardown of 1"
        ]
    );
    log.take();

    let mut stack = ExitStack::new();
    for n in 1..=3 {
        stack.enter(member(log.clone(), n, "")).await.unwrap();
    }
    drop(stack);
    assert_eq!(drain(DEADLINE).await.completed, 1);
    assert_eq!(log.take(), ["3 cancelled", "2 cancelled", "1 cancelled"]);

    drop(ExitStack::new());
    assert_eq!(
        drain(DEADLINE).await.completed,
        0,
        "there was nothing to tear down"
    );
}

#[tokio::test]
async fn members_of_a_stack_see_how_its_body_ended() {
    let stack_of = async |log: &Log| {
        let mut stack = ExitStack::new();
        stack.enter(member(log.clone(), 1, "")).await.unwrap();
        stack.push(always(log.clone(), 2).await);
        stack
    };
    let failed = || Err::<(), _>(io::Error::other("out of space"));
    let log = &Log::default();

    let left = stack_of(log).await.with(async |_| failed()).await;
    assert_eq!(left.unwrap_err().to_string(), "out of space");
    assert_eq!(
        log.take(),
        ["2 failed: out of space", "1 failed: out of space"]
    );
    let left = stack_of(log).await.exit_as(failed()).await;
    assert_eq!(left.unwrap_err().to_string(), "out of space");
    assert_eq!(
        log.take(),
        ["2 failed: out of space", "1 failed: out of space"]
    );

    let left = stack_of(log).await.with(async |stack| {
        stack.enter(always(log.clone(), 3)).await;
        Ok::<_, io::Error>("all of it")
    });
    assert_eq!(left.await.unwrap(), "all of it");
    assert_eq!(log.take(), ["3 completed", "2 completed", "1 completed"]);
    let left = stack_of(log).await.exit_as(Ok::<_, io::Error>(7)).await;
    assert_eq!(left.unwrap(), 7);
    assert_eq!(log.take(), ["2 completed", "1 completed"]);

    let own = log.clone();
    let left = tokio::spawn(async move {
        let mut stack = ExitStack::new();
        stack.enter(always(own, 1)).await;
        stack
            .with(async |_| -> io::Result<()> { panic!("in the body") })
            .await
    });
    assert!(left.await.unwrap_err().is_panic());
    assert_eq!(log.take(), ["1 panicked"]);
}

#[tokio::test]
async fn a_member_is_taken_out_of_its_stack_once() {
    let log = Log::default();
    let (mut stack, mut other) = (ExitStack::new(), ExitStack::new());
    stack.push(always(log.clone(), 1).await);
    let middle = stack.push(always(log.clone(), 2).await);
    let deferred = log.clone();
    let undo = stack.defer(async move { deferred.push("undone") });
    stack.push(always(log.clone(), 3).await);

    assert!(other.take(middle).is_none(), "it is another one's");
    let taken = stack.take(middle).unwrap();
    assert!(stack.take(middle).is_none(), "it is gone");
    drop(stack.take(undo).unwrap());
    stack.exit().await.unwrap();
    assert_eq!(log.take(), ["3 completed", "1 completed"]);
    taken.exit().await;
    assert_eq!(log.take(), ["2 completed"]);
}

#[tokio::test]
async fn pop_all_hands_the_members_over() {
    let log = Log::default();
    let mut stack = ExitStack::new();
    stack.enter(always(log.clone(), 1)).await;
    let handed = stack.pop_all();
    stack.enter(always(log.clone(), 2)).await;
    stack.exit().await.unwrap();
    assert_eq!(log.take(), ["2 completed"]);
    handed.exit().await.unwrap();
    assert_eq!(log.take(), ["1 completed"]);
}

#[test]
fn a_stack_made_outside_a_runtime_is_torn_down_where_its_members_are() {
    let log = Log::default();
    let mut stack = ExitStack::new();
    // With one thread: nothing goes on before it is waited for.
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(stack.enter(member(log.clone(), 1, "")))
        .unwrap();
    drop(stack);
    assert_eq!(runtime.block_on(drain(DEADLINE)).completed, 1);
    assert_eq!(log.take(), ["1 cancelled"]);

    let mut stack = ExitStack::new();
    let deferred = log.clone();
    runtime.block_on(async {
        stack.defer(async move {
            tokio::task::yield_now().await;
            deferred.push("deferred");
        })
    });
    drop(stack);
    assert_eq!(runtime.block_on(drain(DEADLINE)).completed, 1);
    assert_eq!(log.take(), ["deferred"]);
}

/// Tears down when it is let.
#[actxmgr]
async fn gated(log: Log, name: &'static str, gate: Arc<Notify>) {
    yield_().await;
    gate.notified().await;
    log.push(name);
}

#[tokio::test]
async fn inner_goes_before_outer() {
    let log = Log::default();
    let gate = Arc::new(Notify::new());
    let outer = always(log.clone(), 1).await;
    let inner = gated(log.clone(), "inner", Arc::clone(&gate)).await;
    drop(inner);
    drop(outer);
    let other = tokio::spawn({
        let log = log.clone();
        async move { drop(always(log, 7).await) }
    });
    other.await.unwrap();
    while log.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        log.take(),
        ["7 cancelled"],
        "another task's waits for nothing"
    );
    gate.notify_one();
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
    assert_eq!(log.take(), ["inner", "1 cancelled"]);
}

/// Those that wait for nothing are entered before the one that never ends by itself: were they dropped by its
/// task, they would wait.
#[tokio::test]
async fn a_context_keeps_its_place_whoever_drops_it() {
    let log = Log::default();
    let gate = Arc::new(Notify::new());
    let outer = always(log.clone(), 1).await;
    let inner = gated(log.clone(), "inner", Arc::clone(&gate)).await;
    let elsewhere = tokio::spawn(always(log.clone(), 2).into_future());
    let elsewhere = elsewhere.await.unwrap();
    tokio::spawn(async { drop(inner) }).await.unwrap();
    tokio::spawn(async { drop(outer) }).await.unwrap();
    drop(elsewhere);
    assert_eq!(log.take_after(1).await, ["2 cancelled"], "of another task");
    gate.notify_one();
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["inner", "1 cancelled"]);
}

/// Brings the task that calls it to the other worker of its runtime.
async fn change_threads() {
    let first = std::thread::current().id();
    while std::thread::current().id() == first {
        // Keeps this worker busy, so that the other one is there to take the task up.
        let (moved, busy) = std::sync::mpsc::channel::<()>();
        tokio::spawn(async move {
            let _ = busy.recv_timeout(Duration::from_millis(100));
        });
        // Unlike `yield_now`, which puts the wake off until this worker is idle, this one can be stolen at once.
        let mut woken = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut woken, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        drop(moved);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_changes_threads_waits_for_what_it_has_dropped() {
    let log = Log::default();
    let gate = Arc::new(Notify::new());
    let task = tokio::spawn({
        let (log, gate) = (log.clone(), Arc::clone(&gate));
        async move {
            let outer = always(log.clone(), 1).await;
            drop(gated(log, "inner", Arc::clone(&gate)).await);
            change_threads().await;
            let mut leaving = outer.exit_with(Exit::Failed("enough".to_owned()));
            assert!(futures_poll(&mut leaving).await.is_pending());
            tokio::spawn(async move { gate.notify_one() });
            leaving.await;
        }
    });
    let ended = tokio::time::timeout(DEADLINE, task).await;
    ended.expect("it ends").unwrap();
    assert_eq!(log.take(), ["inner", "1 failed: enough"]);
}

#[tokio::test]
async fn exit_waits_for_no_guard_dropped_before() {
    let log = Log::default();
    let gate = Arc::new(Notify::new());
    let outer = always(log.clone(), 1).await;
    drop(gated(log.clone(), "inner", Arc::clone(&gate)).await);
    outer.exit().await;
    gate.notify_one();
    settle().await;
    assert_eq!(log.take(), ["1 completed", "inner"]);
}

#[tokio::test]
async fn an_exit_after_a_failure_waits_for_guards_dropped_before() {
    let log = Log::default();
    let gate = Arc::new(Notify::new());
    let outer = always(log.clone(), 1).await;
    drop(gated(log.clone(), "inner", Arc::clone(&gate)).await);
    gate.notify_one();
    let failed = outer.exit_as(Err::<(), _>(io::Error::other("enough")));
    failed.await.unwrap_err();
    assert_eq!(log.take(), ["inner", "1 failed: enough"]);
}

#[tokio::test]
async fn an_outer_guard_dropped_first_waits_for_nothing() {
    let log = Log::default();
    let gate = Arc::new(Notify::new());
    let outer = always(log.clone(), 1).await;
    let inner = gated(log.clone(), "inner", Arc::clone(&gate)).await;
    drop(outer);
    drop(inner);
    while log.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["1 cancelled", "inner"]);
}

#[actxmgr]
async fn draining(log: Log) {
    yield_().await;
    let drained = drain(DEADLINE).await;
    log.push(format_args!("drained {}", drained.completed));
}

#[tokio::test]
async fn a_drain_inside_a_teardown_waits_neither_for_it_nor_for_who_waits_for_it() {
    let log = Log::default();
    let outer = always(log.clone(), 1).await;
    let inner = draining(log.clone()).await;
    drop(inner);
    drop(outer);
    let two = (draining(log.clone()).await, draining(log.clone()).await);
    drop(two);
    let started = std::time::Instant::now();
    let drained = drain(DEADLINE).await;
    assert_eq!(drained.abandoned, [""; 0]);
    assert!(started.elapsed() < DEADLINE / 2);
}

#[tokio::test]
async fn drain_names_what_it_leaves() {
    let log = Log::default();
    let gate = Arc::new(Notify::new());
    drop(gated(log.clone(), "late", Arc::clone(&gate)).await);
    drop(always(log.clone(), 1).await);
    let drained = drain(Duration::from_millis(20)).await;
    assert_eq!(drained.completed, 1);
    assert_eq!(drained.abandoned, ["gated"]);
    gate.notify_one();
    assert_eq!(drain(DEADLINE).await.completed, 1);
    assert_eq!(log.take(), ["1 cancelled", "late"]);
}

/// Enters and drops another context in its teardown.
#[actxmgr]
async fn dropping(log: Log) {
    yield_().await;
    drop(member(log.clone(), 2, "").await);
    log.push("dropped");
}

#[tokio::test]
async fn drain_waits_for_what_arrives_meanwhile() {
    let log = Log::default();
    drop(dropping(log.clone()).await);
    let drained = drain(DEADLINE).await;
    assert_eq!(drained.completed, 2);
    assert_eq!(log.take(), ["dropped", "2 cancelled"]);
}

#[tokio::test]
async fn a_tuple_takes_up_to_eight() {
    let log = Log::default();
    let of = |number| always(log.clone(), number);
    let last = member(log.clone(), 8, "");
    let guard = group((of(1), of(2), of(3), of(4), of(5), of(6), of(7), last))
        .await
        .unwrap();
    assert_eq!((*guard.0, *guard.7), (1, 8));
    guard.exit().await.unwrap();
    assert_eq!(log.take().len(), 8);
}

#[actxmgr]
async fn stacked(log: Log, number: u32) -> io::Result<ExitStack> {
    let mut stack = ExitStack::new();
    stack.enter(member(log.clone(), number, "")).await?;
    stack.enter(always(log.clone(), number + 1)).await;
    let (stack, exit) = yield_(stack).await;
    stack.exit_with(exit).await.map_err(io::Error::other)
}

#[tokio::test]
async fn a_stack_in_a_context_in_a_group_is_left_last_first() {
    let log = Log::default();
    let of_number = |log: &Log, tens: &str| {
        let mut seen = log.take();
        seen.retain(|entry| entry.starts_with(tens));
        seen
    };
    let stacks = group([stacked(log.clone(), 10), stacked(log.clone(), 20)]);
    stacks.await.unwrap().exit().await.unwrap();
    assert_eq!(of_number(&log, "2"), ["21 completed", "20 completed"]);

    let stacks = group([stacked(log.clone(), 10), stacked(log.clone(), 20)]);
    drop(stacks.await.unwrap());
    drain(DEADLINE).await;
    assert_eq!(of_number(&log, "1"), ["11 cancelled", "10 cancelled"]);
}

#[actxmgr]
async fn gated_in(gate: Arc<Notify>) {
    gate.notified().await;
    yield_().await;
}

#[tokio::test]
async fn a_large_group_that_enters_last_first_is_dropped_at_once() {
    const MEMBERS: usize = 100_000;
    let gates: Vec<_> = (0..MEMBERS).map(|_| Arc::new(Notify::new())).collect();
    let mut entering = group(gates.iter().map(|gate| gated_in(Arc::clone(gate)))).enter();
    assert!(futures_poll(&mut entering).await.is_pending());
    for gate in gates[1..].iter().rev() {
        gate.notify_one();
    }
    assert!(futures_poll(&mut entering).await.is_pending());
    let started = std::time::Instant::now();
    drop(entering);
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
    assert_eq!(drain(DEADLINE).await.completed, MEMBERS - 1);
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx)))
        .await
}
