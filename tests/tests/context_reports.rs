//! Teardowns with nobody to tell: the hook, the counts, the span, and runtimes that end too early.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aioxide::teardown::{TeardownError, on_error, stats};
use aioxide::{Exit, ExitErrors, ExitStack, actxmgr, drain, group};
use tokio::runtime::Builder;
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(20);

/// All reports of this process about the context called `name`, taken.
fn reports(name: &str) -> Vec<TeardownError> {
    let mut all = collected().lock().unwrap();
    let (taken, left) = std::mem::take(&mut *all)
        .into_iter()
        .partition(|report| report.name() == name);
    *all = left;
    taken
}

fn texts(name: &str) -> Vec<String> {
    reports(name).iter().map(ToString::to_string).collect()
}

fn collected() -> &'static Mutex<Vec<TeardownError>> {
    static REPORTS: OnceLock<Mutex<Vec<TeardownError>>> = OnceLock::new();
    REPORTS.get_or_init(|| {
        on_error(|report| {
            assert_ne!(report.name(), "told_to_a_broken_hook");
            if let Some(reports) = REPORTS.get() {
                reports.lock().unwrap().push(report.clone());
            }
        });
        Mutex::default()
    })
}

#[actxmgr]
async fn failing() -> io::Result<()> {
    yield_().await;
    Err(io::Error::other("disk full"))
}

#[tokio::test]
async fn a_detached_failure_is_reported() {
    collected();
    let before = stats();
    drop(failing().await.unwrap());
    drain(DEADLINE).await;
    assert_eq!(
        texts("failing"),
        ["the teardown of `failing` failed: disk full"]
    );
    assert!(stats().failed > before.failed);
}

#[actxmgr]
async fn failing_beside_its_body() -> io::Result<()> {
    yield_().await;
    Err(io::Error::other("teardown"))
}

#[tokio::test]
async fn the_second_error_is_reported() {
    collected();
    let body = async |(): &mut ()| Err::<(), _>(io::Error::other("body"));
    let error = failing_beside_its_body().with(body).await.unwrap_err();
    assert_eq!(error.to_string(), "body");
    let guard = failing_beside_its_body().await.unwrap();
    let error = guard
        .exit_as(Err::<(), _>(io::Error::other("body")))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "body");
    assert_eq!(reports("failing_beside_its_body").len(), 2);
}

macro_rules! members {
    ($($name:ident)*) => {$(
        /// A member of a group that goes wrong where it is told to.
        #[actxmgr]
        async fn $name(number: u8, wrong: &'static str) -> io::Result<()> {
            if wrong == "setup" {
                tokio::task::yield_now().await;
                return Err(io::Error::other(format!("setup of {number}")));
            }
            yield_().await;
            match wrong {
                "panic" => panic!("panic of {number}"),
                "teardown" => Err(io::Error::other(format!("teardown of {number}"))),
                _ => Ok(()),
            }
        }
    )*};
}

members!(of_a_list of_a_tuple beside_a_setup beside_a_setup_in_a_tuple panics panics_in_a_tuple panics_in_a_stack);

#[tokio::test]
async fn the_errors_of_the_other_members_are_reported() {
    collected();
    let wrong = ["", "teardown", "", "teardown"];
    let members = (0..)
        .zip(wrong)
        .map(|(number, wrong)| of_a_list(number, wrong));
    let error = group(members).await.unwrap().exit().await.unwrap_err();
    assert_eq!(error.to_string(), "teardown of 1");
    assert_eq!(
        texts("of_a_list"),
        ["the teardown of `of_a_list` failed: teardown of 3"]
    );

    let members = (
        of_a_tuple(0, ""),
        of_a_tuple(1, "teardown"),
        of_a_tuple(2, ""),
        of_a_tuple(3, "teardown"),
    );
    let error = group(members).await.unwrap().exit().await.unwrap_err();
    assert_eq!(error.to_string(), "teardown of 1");
    assert_eq!(
        texts("of_a_tuple"),
        ["the teardown of `of_a_tuple` failed: teardown of 3"]
    );
}

#[tokio::test]
async fn the_errors_beside_a_member_that_fails_to_enter_are_reported() {
    collected();
    let members = ["teardown", "setup", "teardown"];
    let members = (0..)
        .zip(members)
        .map(|(number, wrong)| beside_a_setup(number, wrong));
    let error = group(members).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "setup of 1");
    let mut texts_of_list = texts("beside_a_setup");
    texts_of_list.sort();
    assert_eq!(
        texts_of_list,
        [0, 2].map(|n| format!("the teardown of `beside_a_setup` failed: teardown of {n}"))
    );

    let members = (
        beside_a_setup_in_a_tuple(0, "setup"),
        beside_a_setup_in_a_tuple(1, "teardown"),
        beside_a_setup_in_a_tuple(2, "panic"),
    );
    let error = group(members).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "setup of 0");
    assert_eq!(
        texts("beside_a_setup_in_a_tuple"),
        [
            "the teardown of `beside_a_setup_in_a_tuple` failed: teardown of 1",
            "the teardown of `beside_a_setup_in_a_tuple` panicked: panic of 2",
        ]
    );
}

#[tokio::test]
async fn what_goes_wrong_beside_a_panic_of_a_member_is_reported() {
    collected();
    let left = tokio::spawn(async {
        let wrong = ["panic", "teardown", "panic", ""];
        let members = (0..)
            .zip(wrong)
            .map(|(number, wrong)| panics(number, wrong));
        group(members).await.unwrap().exit().await
    });
    let panic = left.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "panic of 0");
    assert_eq!(
        texts("panics"),
        [
            "the teardown of `panics` panicked: panic of 2",
            "the teardown of `panics` failed: teardown of 1",
        ]
    );

    let left = tokio::spawn(async {
        let members = (
            panics_in_a_tuple(0, "panic"),
            panics_in_a_tuple(1, "panic"),
            panics_in_a_tuple(2, "teardown"),
        );
        group(members).await.unwrap().exit().await
    });
    let panic = left.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "panic of 0");
    assert_eq!(
        texts("panics_in_a_tuple"),
        [
            "the teardown of `panics_in_a_tuple` panicked: panic of 1",
            "the teardown of `panics_in_a_tuple` failed: teardown of 2",
        ]
    );

    let left = tokio::spawn(async {
        let mut stack = ExitStack::new();
        for (number, wrong) in (0..).zip(["panic", "teardown", "", "panic", "teardown"]) {
            stack.enter(panics_in_a_stack(number, wrong)).await.unwrap();
        }
        stack.exit().await
    });
    let panic = left.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "panic of 3");
    assert_eq!(
        texts("panics_in_a_stack"),
        [
            "the teardown of `panics_in_a_stack` panicked: panic of 0",
            "the teardown of `panics_in_a_stack` failed: teardown of 4",
            "the teardown of `panics_in_a_stack` failed: teardown of 1",
        ]
    );
}

/// Tells its causes when it is asked to, as the errors of anyhow and eyre do.
#[derive(Debug)]
struct Caused(&'static str);

impl fmt::Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => write!(f, "{}: no route: link is down", self.0),
            false => f.write_str(self.0),
        }
    }
}

impl std::error::Error for Caused {}

impl From<ExitErrors> for Caused {
    fn from(_: ExitErrors) -> Caused {
        Caused("goodbyes")
    }
}

#[actxmgr]
async fn caused(seen: Arc<Mutex<String>>) -> Result<(), Caused> {
    let exit = yield_().await;
    *seen.lock().unwrap() = exit.to_string();
    Err(Caused("goodbye"))
}

#[tokio::test]
async fn reports_tell_the_causes() {
    collected();
    let seen: Arc<Mutex<String>> = Arc::default();
    let entered = || caused(Arc::clone(&seen));
    let told = || std::mem::take(&mut *seen.lock().unwrap());
    let text = "the teardown of `caused` failed: goodbye: no route: link is down";
    let reason = "failed: transfer: no route: link is down";

    drop(entered().await.unwrap());
    drain(DEADLINE).await;
    assert_eq!(texts("caused"), [text]);

    let failed = || Err::<(), _>(Caused("transfer"));
    let _ = entered().with(async |_| failed()).await;
    assert_eq!(
        (told().as_str(), texts("caused")),
        (reason, vec![text.to_owned()])
    );
    let _ = entered().await.unwrap().exit_as(failed()).await;
    assert_eq!(
        (told().as_str(), texts("caused")),
        (reason, vec![text.to_owned()])
    );

    let mut stack = ExitStack::new();
    stack.enter(entered()).await.unwrap();
    let _ = stack.with(async |_| failed()).await;
    assert_eq!(told(), reason);
    // Other tests have stacks too.
    let of_stack = format!("the teardown of `ExitStack` failed: {text}");
    assert!(texts("ExitStack").contains(&of_stack));
}

#[actxmgr]
async fn panicking() {
    yield_().await;
    panic!("in the teardown");
}

#[tokio::test]
async fn a_detached_panic_is_reported() {
    collected();
    drop(panicking().await);
    assert_eq!(drain(DEADLINE).await.completed, 1);
    assert_eq!(
        texts("panicking"),
        ["the teardown of `panicking` panicked: in the teardown"]
    );

    let panic = tokio::spawn(async { panicking().with(async |()| panic!("in the body")).await });
    let panic = panic.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"in the body"));
    assert_eq!(reports("panicking").len(), 1);

    let panic = tokio::spawn(async { panicking().await.exit().await })
        .await
        .unwrap_err();
    assert!(panic.is_panic());
    assert_eq!(reports("panicking"), [], "the caller got it");
}

macro_rules! stuck {
    ($($name:ident)*) => {$(
        /// Its teardown never ends.
        #[actxmgr]
        async fn $name() {
            yield_().await;
            std::future::pending::<()>().await;
        }
    )*};
}

stuck!(alive running late foreign unspawned);

fn abandoned(name: &str) {
    let reports = reports(name);
    assert!(
        matches!(&reports[..], [TeardownError::Abandoned { .. }]),
        "{name}: {reports:?}"
    );
}

#[test]
fn a_runtime_that_ends_abandons_what_is_left_and_says_so() {
    collected();
    let before = stats();
    for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = builder.enable_all().build().unwrap();
        // A guard alive in a task of the runtime.
        let entered = Arc::new(Notify::new());
        let tell = Arc::clone(&entered);
        runtime.spawn(async move {
            let _guard = alive().await;
            tell.notify_one();
            std::future::pending::<()>().await;
        });
        runtime.block_on(entered.notified());
        // A teardown that is running.
        runtime.block_on(async {
            drop(running().await);
            tokio::task::yield_now().await;
        });
        // A guard that outlives the runtime, dropped here and on another thread.
        let guard = runtime.block_on(late().into_future());
        let other = runtime.block_on(foreign().into_future());
        let leave = runtime.block_on(unspawned().into_future()).exit();
        drop(runtime);
        abandoned("alive");
        abandoned("running");
        drop(guard);
        abandoned("late");
        std::thread::spawn(move || drop(other)).join().unwrap();
        abandoned("foreign");
        drop(leave);
        abandoned("unspawned");
    }
    assert!(stats().abandoned >= before.abandoned + 10);
}

#[actxmgr]
async fn outside(polls: u8) {
    yield_().await;
    for _ in 0..polls {
        tokio::task::yield_now().await;
    }
}

#[test]
fn outside_a_runtime_a_dropped_guard_polls_once() {
    collected();
    let enter = |context: aioxide::Context<aioxide::Always<()>>| {
        let mut enter = context.enter();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut enter).poll(&mut cx) {
            std::task::Poll::Ready(guard) => guard,
            std::task::Poll::Pending => panic!("its setup is ready at once"),
        }
    };
    drop(enter(outside(0)));
    assert_eq!(reports("outside"), []);
    drop(enter(outside(1)));
    abandoned("outside");
}

#[actxmgr]
async fn elsewhere(seen: Arc<Mutex<Option<std::thread::ThreadId>>>) {
    yield_().await;
    *seen.lock().unwrap() = Some(std::thread::current().id());
}

#[test]
fn a_guard_dropped_on_a_foreign_thread_is_torn_down_on_its_runtime() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let seen = Arc::default();
    let guard = runtime.block_on(elsewhere(Arc::clone(&seen)).into_future());
    std::thread::spawn(move || drop(guard)).join().unwrap();
    runtime.block_on(drain(DEADLINE));
    assert_eq!(*seen.lock().unwrap(), Some(std::thread::current().id()));
}

#[actxmgr]
async fn slow_elsewhere(gate: Arc<Notify>) {
    yield_().await;
    gate.notified().await;
}

#[test]
fn a_drain_outside_a_runtime_waits_for_all() {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut cx = std::task::Context::from_waker(&waker);
        loop {
            match future.as_mut().poll(&mut cx) {
                std::task::Poll::Ready(output) => return output,
                std::task::Poll::Pending => std::thread::park_timeout(DEADLINE),
            }
        }
    }
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let gate = Arc::new(Notify::new());
    drop(runtime.block_on(slow_elsewhere(Arc::clone(&gate)).into_future()));
    let drained = block_on(drain(Duration::from_millis(30)));
    assert!(drained.abandoned.contains(&"slow_elsewhere"), "{drained:?}");
    gate.notify_one();
    // Other tests of this process detach as well.
    while block_on(drain(Duration::from_millis(30)))
        .abandoned
        .contains(&"slow_elsewhere")
    {}
}

#[actxmgr]
async fn endless() {
    yield_().await;
    std::future::pending().await
}

/// As `tracing_subscriber::fmt` panics when it can't write to a terminal that has been closed.
#[tokio::test]
async fn a_log_that_panics_does_not_hurt_a_drain() {
    let closed = || -> io::Stderr { panic!("nobody reads the log") };
    let log = tracing_subscriber::fmt().with_writer(closed).finish();
    let _log = tracing::subscriber::set_default(log);
    drop(endless().await);
    let drained = drain(Duration::from_millis(30)).await;
    assert_eq!(drained.abandoned, ["endless"]);
}

#[actxmgr]
async fn traced(seen: Arc<Mutex<Option<String>>>) {
    yield_().await;
    let span = tracing::Span::current();
    *seen.lock().unwrap() = span.metadata().map(|metadata| metadata.name().to_owned());
}

#[tokio::test]
async fn a_detached_teardown_runs_in_the_span_current_at_enter() {
    use tracing::Instrument;
    let _ = tracing_subscriber::fmt().with_writer(io::sink).try_init();
    let seen = Arc::default();
    let guard = async { traced(Arc::clone(&seen)).await };
    let guard = guard.instrument(tracing::info_span!("request")).await;
    drop(guard);
    drain(DEADLINE).await;
    assert_eq!(seen.lock().unwrap().as_deref(), Some("request"));
}

#[tokio::test]
async fn a_log_that_panics_does_not_hurt_an_exit() {
    use tracing::Instrument;
    use tracing_subscriber::fmt::format::FmtSpan;
    let closed = || -> io::Stderr { panic!("nobody reads the log") };
    let log = tracing_subscriber::fmt()
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(closed)
        .finish();
    let _log = tracing::subscriber::set_default(log);
    // The last of its span goes with it.
    let enter =
        || async { traced(Arc::default()).await }.instrument(tracing::info_span!("request"));
    let left = enter().await.exit_as(Err::<(), _>("the first")).await;
    assert_eq!(left, Err("the first"));
    enter().await.exit().await;
}

#[actxmgr(borrowed)]
async fn traced_on_loan(seen: &Mutex<Option<String>>) {
    yield_().await;
    let span = tracing::Span::current();
    *seen.lock().unwrap() = span.metadata().map(|metadata| metadata.name().to_owned());
}

#[tokio::test]
async fn a_borrowed_guard_that_is_dropped_runs_in_that_span_too() {
    use tracing::Instrument;
    let _ = tracing_subscriber::fmt().with_writer(io::sink).try_init();
    let seen = Mutex::default();
    let guard = async { traced_on_loan(&seen).await };
    let guard = guard.instrument(tracing::info_span!("request")).await;
    drop(guard);
    assert_eq!(seen.lock().unwrap().as_deref(), Some("request"));
}

/// Tells that it is being dropped, and waits until it may be gone.
struct LastHeld {
    dropping: Sender<()>,
    may_go: Mutex<Receiver<()>>,
}

impl Drop for LastHeld {
    fn drop(&mut self) {
        let _ = self.dropping.send(());
        let _ = self.may_go.lock().unwrap().recv_timeout(DEADLINE);
    }
}

#[actxmgr]
async fn holding(held: LastHeld) {
    yield_().await;
    let _held = &held;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_teardown_has_ended_when_what_it_holds_is_gone() {
    let (dropping, is_dropping) = channel();
    let (go, may_go) = channel();
    let held = LastHeld {
        dropping,
        may_go: Mutex::new(may_go),
    };
    drop(holding(held).await);
    let dropped = tokio::task::spawn_blocking(move || is_dropping.recv_timeout(DEADLINE));
    dropped.await.unwrap().unwrap();
    let drained = drain(Duration::from_millis(50)).await;
    assert_eq!(drained.abandoned, ["holding"]);
    drop(go);
    assert_eq!(drain(DEADLINE).await.abandoned, [""; 0]);
}

/// A minimal executor whose wakers own the future, as those of async-task do: dropping the last one drops
/// the future, and the guards in it.
struct OwningTask(Mutex<Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl std::task::Wake for OwningTask {
    fn wake(self: Arc<Self>) {}
}

impl OwningTask {
    /// Polls once; from then on only wakers keep the future alive.
    fn poll_and_let_go(future: impl Future<Output = ()> + Send + 'static) {
        let task = Arc::new(OwningTask(Mutex::new(Some(Box::pin(future)))));
        let waker = Arc::clone(&task).into();
        let mut cx = std::task::Context::from_waker(&waker);
        if let Some(future) = &mut *task.0.lock().unwrap() {
            assert!(future.as_mut().poll(&mut cx).is_pending());
        }
    }
}

#[actxmgr]
async fn inner_of_two(gate: Arc<Notify>) {
    yield_().await;
    gate.notified().await;
}

#[test]
fn a_waker_that_is_dropped_may_drop_guards() {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let gate = Arc::new(Notify::new());
    let (outer, inner) = runtime.block_on(async {
        let outer = elsewhere(Arc::default()).await;
        (outer, inner_of_two(Arc::clone(&gate)).await)
    });
    let late = runtime.block_on(elsewhere(Arc::default()).into_future());
    drop(inner);
    OwningTask::poll_and_let_go(async move {
        let _late = late;
        outer.exit_with(Exit::Cancelled).await;
    });
    OwningTask::poll_and_let_go(async move {
        let _late = elsewhere(Arc::default()).await;
        drain(DEADLINE * 2).await;
    });
    gate.notify_one();
    let drained = runtime.block_on(async { tokio::time::timeout(DEADLINE, drain(DEADLINE)).await });
    assert_eq!(drained.expect("no deadlock").abandoned, [""; 0]);
}

#[actxmgr(teardown_timeout = 50ms)]
async fn never_short_of_work() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    yield_().await;
    loop {
        tokio::task::consume_budget().await;
    }
}

#[tokio::test]
async fn a_teardown_that_always_has_something_to_do_is_given_up() {
    let guard = never_short_of_work().await.unwrap();
    let left = tokio::time::timeout(DEADLINE, tokio::spawn(guard.exit()));
    let left = left.await.expect("it is given up").unwrap();
    assert!(left.unwrap_err().to_string().contains("50ms"));
}

#[actxmgr]
async fn half_run(log: Arc<Mutex<Vec<u8>>>, number: u8) {
    yield_().await;
    log.lock().unwrap().push(number);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_abandoned_stack_lets_go_last_first() {
    let log = Arc::default();
    // Outside a runtime, each gets one poll.
    std::thread::spawn({
        let log = Arc::clone(&log);
        move || {
            let mut stack = aioxide::ExitStack::new();
            for number in 1..=3 {
                let mut entering = std::pin::pin!(stack.enter(half_run(Arc::clone(&log), number)));
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(entering.as_mut().poll(&mut cx).is_ready());
            }
        }
    })
    .join()
    .unwrap();
    assert_eq!(*log.lock().unwrap(), [3, 2, 1]);
}

#[actxmgr(teardown_timeout = 1h)]
async fn left_on_another_runtime(
    gate: Arc<Notify>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    yield_().await;
    gate.notified().await;
    gate.notified().await;
    Ok(())
}

#[test]
fn a_limit_outlives_the_runtime_that_it_began_on() {
    collected();
    let home = Builder::new_current_thread().enable_all().build().unwrap();
    let other = Builder::new_current_thread().enable_all().build().unwrap();
    let gate = Arc::new(Notify::new());
    let entering = left_on_another_runtime(Arc::clone(&gate)).into_future();
    let mut leaving = home.block_on(entering).unwrap().exit();
    other.block_on(std::future::poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut leaving).poll(cx).is_pending());
        std::task::Poll::Ready(())
    }));
    drop(other);
    drop(leaving);
    let ended = home.block_on(async {
        gate.notify_one();
        tokio::task::yield_now().await;
        gate.notify_one();
        drain(DEADLINE).await
    });
    assert_eq!(ended.abandoned, [""; 0]);
    assert_eq!(reports("left_on_another_runtime"), []);
}

#[actxmgr(borrowed)]
async fn lent_elsewhere(seen: &Mutex<Option<tokio::runtime::Id>>) {
    yield_().await;
    *seen.lock().unwrap() = Some(tokio::runtime::Handle::current().id());
}

#[test]
fn a_borrowed_guard_dropped_on_a_foreign_thread_is_polled_in_its_runtime() {
    collected();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let seen = Mutex::new(None);
    let guard = runtime.block_on(lent_elsewhere(&seen).into_future());
    std::thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
    assert_eq!(*seen.lock().unwrap(), Some(runtime.handle().id()));
    assert_eq!(reports("lent_elsewhere"), []);
}

#[actxmgr(finish_setup)]
async fn ends_before_its_yield(gate: Arc<Notify>) -> io::Result<()> {
    gate.notified().await;
    if Arc::strong_count(&gate) > 0 {
        return done();
    }
    yield_().await;
    Ok(())
}

fn done() -> io::Result<()> {
    Ok(())
}

#[tokio::test]
async fn a_finished_setup_that_never_yields_is_reported() {
    collected();
    let gate = Arc::new(Notify::new());
    let entering = ends_before_its_yield(Arc::clone(&gate)).enter();
    let entering = tokio::time::timeout(Duration::from_millis(1), entering);
    assert!(entering.await.is_err());
    gate.notify_one();
    drain(DEADLINE).await;
    let reports = reports("ends_before_its_yield");
    assert!(
        matches!(&reports[..], [TeardownError::Panicked { message, .. }] if message.contains("before it reached its `yield_`")),
        "{reports:?}"
    );
}

#[actxmgr]
async fn told_to_a_broken_hook() -> io::Result<()> {
    yield_().await;
    Err(io::Error::other("for the hook"))
}

#[tokio::test]
async fn a_panic_in_the_hook_goes_no_further() {
    collected();
    let before = stats();
    drop(told_to_a_broken_hook().await.unwrap());
    assert_eq!(drain(DEADLINE).await.completed, 1);
    assert!(stats().failed > before.failed);
    drop(failing_at_its_end().await.unwrap());
    drain(DEADLINE).await;
    assert_eq!(
        reports("failing_at_its_end").len(),
        1,
        "the hook is still there"
    );
}

#[actxmgr]
async fn failing_at_its_end() -> io::Result<()> {
    yield_().await;
    Err(io::Error::other("again"))
}

struct BreaksAtItsEnd;

impl Drop for BreaksAtItsEnd {
    fn drop(&mut self) {
        panic!("broke");
    }
}

#[actxmgr(teardown_timeout = 50ms)]
async fn late_and_broken() -> io::Result<()> {
    yield_().await;
    let _held = BreaksAtItsEnd;
    std::future::pending::<()>().await;
    Ok(())
}

#[actxmgr]
async fn beside_a_broken_one(left: Arc<Mutex<bool>>) -> io::Result<()> {
    yield_().await;
    // The other one is late by then.
    tokio::time::sleep(Duration::from_millis(200)).await;
    *left.lock().unwrap() = true;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_may_panic_as_it_is_dropped() {
    collected();
    let late = late_and_broken().await.unwrap();
    let panic = tokio::spawn(late.exit()).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"broke"));
    let limit = "the teardown of `late_and_broken` was given up: it took longer than 50ms";
    assert_eq!(texts("late_and_broken"), [limit]);

    // In a group the others go on.
    let left = Arc::new(Mutex::new(false));
    let members = group((late_and_broken(), beside_a_broken_one(Arc::clone(&left))));
    let members = members.await.unwrap();
    let panic = tokio::spawn(members.exit()).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"broke"));
    assert!(*left.lock().unwrap());
    assert_eq!(texts("late_and_broken"), [limit]);
}
