//! The teardown table of the contract: what happens, when the teardown runs, what it sees.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Always, Exit, actxmgr, drain};

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
}

#[derive(Debug, PartialEq)]
struct Failure(&'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Fails where its name says so.
#[actxmgr]
async fn fallible(log: Log, fails: &'static str) -> Result<u32, Failure> {
    log.push("setup");
    tokio::task::yield_now().await;
    if fails == "setup" {
        return Err(Failure("setup"));
    }
    let (value, exit) = yield_(7).await;
    tokio::task::yield_now().await;
    log.push(format_args!("teardown of {value}: {exit}"));
    if fails == "teardown" {
        return Err(Failure("teardown"));
    }
    Ok(())
}

#[actxmgr]
async fn infallible(log: Log) -> Vec<u8> {
    log.push("setup");
    let (value, exit) = yield_(vec![1]).await;
    tokio::task::yield_now().await;
    log.push(format_args!("teardown of {value:?}: {exit}"));
}

#[actxmgr]
async fn nothing(log: Log) {
    let exit = yield_().await;
    log.push(exit);
}

#[tokio::test]
async fn exit_is_awaited_and_gives_the_teardowns_error() {
    let log = Log::default();
    let guard = fallible(log.clone(), "").await.unwrap();
    assert_eq!(*guard, 7);
    assert_eq!(log.take(), ["setup"]);
    guard.exit().await.unwrap();
    assert_eq!(log.take(), ["teardown of 7: completed"]);

    let mut guard = fallible(log.clone(), "teardown").await.unwrap();
    *guard += 1;
    assert_eq!(guard.exit().await, Err(Failure("teardown")));
    assert_eq!(log.take(), ["setup", "teardown of 8: completed"]);

    assert_eq!(
        fallible(log.clone(), "setup").await.map(drop),
        Err(Failure("setup"))
    );
    assert_eq!(log.take(), ["setup"]);

    let mut guard = infallible(log.clone()).await;
    guard.push(2);
    let () = guard.exit().await;
    assert_eq!(log.take(), ["setup", "teardown of [1, 2]: completed"]);

    nothing(log.clone())
        .await
        .exit_with(Exit::Failed("x".into()))
        .await;
    assert_eq!(log.take(), ["failed: x"]);
}

#[tokio::test]
async fn with_tells_how_its_body_ended() {
    let log = Log::default();
    let got = fallible(log.clone(), "")
        .with(async |value| {
            *value += 1;
            Ok::<_, Failure>(*value)
        })
        .await;
    assert_eq!(got, Ok(8));
    assert_eq!(log.take(), ["setup", "teardown of 8: completed"]);

    let got = fallible(log.clone(), "teardown")
        .with(async |_| Err::<(), _>(Failure("body")))
        .await;
    assert_eq!(got, Err(Failure("body")));
    assert_eq!(log.take(), ["setup", "teardown of 7: failed: body"]);

    let got = fallible(log.clone(), "teardown")
        .with(async |_| Ok::<_, Failure>(()))
        .await;
    assert_eq!(got, Err(Failure("teardown")));
    log.take();

    let got = infallible(log.clone())
        .with(async |value| value.len())
        .await;
    assert_eq!(got, 1);
    assert_eq!(log.take(), ["setup", "teardown of [1]: completed"]);
}

#[tokio::test]
async fn a_panic_in_with_tears_down_inline_and_goes_on() {
    let log = Log::default();
    let inner = log.clone();
    let task = tokio::spawn(async move {
        infallible(inner)
            .with(async |_| panic!("at the disco"))
            .await
    });
    let panic = task.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"at the disco"));
    assert_eq!(log.take(), ["setup", "teardown of [1]: panicked"]);
}

#[tokio::test]
async fn a_dropped_guard_detaches() {
    let log = Log::default();
    drop(fallible(log.clone(), "").await);
    assert_eq!(log.take(), ["setup"]);
    let drained = drain(DEADLINE).await;
    assert_eq!(drained.completed, 1);
    assert_eq!(drained.abandoned, [""; 0]);
    assert_eq!(log.take(), ["teardown of 7: cancelled"]);
}

#[tokio::test]
async fn a_guard_dropped_in_unwinding_sees_the_panic() {
    let log = Log::default();
    let inner = log.clone();
    let task = tokio::spawn(async move {
        let _guard = infallible(inner).await;
        panic!("unwound");
    });
    assert!(task.await.unwrap_err().is_panic());
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["setup", "teardown of [1]: panicked"]);
}

#[tokio::test]
async fn a_half_run_teardown_goes_on_with_the_exit_it_had() {
    let log = Log::default();
    let guard = infallible(log.clone()).await;
    let mut leave = Box::pin(guard.exit());
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(leave.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(leave);
    drop(infallible(log.clone()).await.exit());
    drain(DEADLINE).await;
    assert_eq!(
        log.take(),
        [
            "setup",
            "setup",
            "teardown of [1]: completed",
            "teardown of [1]: completed"
        ]
    );
}

#[tokio::test]
async fn an_enter_dropped_before_the_yield_tears_nothing_down() {
    let log = Log::default();
    let mut enter = Box::pin(fallible(log.clone(), "").enter());
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(enter.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(enter);
    assert_eq!(drain(DEADLINE).await.completed, 0);
    assert_eq!(log.take(), ["setup"]);
}

#[actxmgr]
async fn never_there(log: Log) -> Always<Result<u8, String>> {
    log.push("a value called `Result`");
    let (value, _) = yield_(Err("not a number".to_owned())).await;
    assert!(value.is_err());
}

#[tokio::test]
async fn always_is_infallible_whatever_the_value() {
    let guard = never_there(Log::default()).await;
    assert!(guard.is_err());
    guard.exit().await;
}

#[actxmgr(borrowed)]
async fn lent(log: &Log, fails: bool) -> Result<u32, Failure> {
    let (value, exit) = yield_(7).await;
    tokio::task::yield_now().await;
    log.push(format_args!("{value}: {exit}"));
    if fails {
        Err(Failure("teardown"))
    } else {
        Ok(())
    }
}

#[tokio::test]
async fn exit_as_gives_the_result_back() {
    let log = Log::default();
    let good = || Ok::<_, Failure>("output");
    let bad = || Err::<(), _>(Failure("body"));

    let guard = fallible(log.clone(), "").await.unwrap();
    assert_eq!(guard.exit_as(good()).await, Ok("output"));
    let guard = fallible(log.clone(), "").await.unwrap();
    assert_eq!(guard.exit_as(bad()).await, Err(Failure("body")));
    let guard = fallible(log.clone(), "teardown").await.unwrap();
    assert_eq!(guard.exit_as(good()).await, Err(Failure("teardown")));
    let seen = log.take();
    let teardowns: Vec<_> = seen.iter().filter(|entry| *entry != "setup").collect();
    assert_eq!(
        teardowns,
        [
            "teardown of 7: completed",
            "teardown of 7: failed: body",
            "teardown of 7: completed"
        ]
    );

    let guard = infallible(log.clone()).await;
    assert_eq!(guard.exit_as(good()).await, Ok("output"));
    let guard = infallible(log.clone()).await;
    assert_eq!(guard.exit_as(bad()).await, Err(Failure("body")));
    assert_eq!(
        log.take(),
        [
            "setup",
            "teardown of [1]: completed",
            "setup",
            "teardown of [1]: failed: body"
        ]
    );

    let guard = lent(&log, false).await.unwrap();
    assert_eq!(guard.exit_as(bad()).await, Err(Failure("body")));
    let guard = lent(&log, true).await.unwrap();
    assert_eq!(guard.exit_as(good()).await, Err(Failure("teardown")));
    assert_eq!(log.take(), ["7: failed: body", "7: completed"]);

    let guard = fallible(log.clone(), "").await.unwrap();
    drop(guard.exit_as(bad()));
    drain(DEADLINE).await;
    assert_eq!(log.take(), ["setup", "teardown of 7: failed: body"]);
}
