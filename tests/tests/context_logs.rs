//! What is logged of teardowns with nobody to tell. In a program of its own, with one test: where one thread
//! logs without a subscriber while another one installs its own, tracing may take the event for one that nobody
//! wants.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use aioxide::{Elapsed, actxmgr, drain, settle};
use tokio::runtime::Builder;
use tokio::time::sleep;
use tracing::Level;

#[derive(Debug)]
struct Failure(String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Elapsed> for Failure {
    fn from(elapsed: Elapsed) -> Self {
        Failure(elapsed.to_string())
    }
}

#[actxmgr]
async fn failing() -> Result<(), Failure> {
    yield_().await;
    Err(Failure("disk full".to_owned()))
}

#[actxmgr]
async fn panicking() {
    yield_().await;
    panic!("number {}", 7);
}

#[actxmgr(teardown_timeout = 50ms)]
async fn slow() -> Result<(), Failure> {
    yield_().await;
    std::future::pending().await
}

#[actxmgr]
async fn stuck() {
    yield_().await;
    std::future::pending::<()>().await;
}

/// The lines that `program` logs, down to `level`.
fn logged(level: Level, program: impl Future<Output = ()>) -> Vec<String> {
    let (mut log, writer) = UnixStream::pair().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(Arc::new(writer))
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(program);
    });
    let mut text = String::new();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    log.read_to_string(&mut text).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn what_nobody_is_told_is_logged() {
    each_kind_of_error_is_logged_with_the_functions_name();
    an_exit_that_overtakes_what_was_dropped_says_so();
}

fn each_kind_of_error_is_logged_with_the_functions_name() {
    let lines = logged(Level::INFO, async {
        drop(failing().await.unwrap());
        drain(Duration::MAX).await;
        drop(panicking().await);
        drain(Duration::MAX).await;
        drop(slow().await.unwrap());
        drain(Duration::MAX).await;
        drop(stuck().await);
    });
    let expected = [
        ("failing", "failed: disk full"),
        ("panicking", "panicked: number 7"),
        ("slow", "was given up: it took longer than 50ms"),
        (
            "stuck",
            "was abandoned half-way: the runtime that it was entered on has ended",
        ),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (name, what)) in lines.iter().zip(expected) {
        assert!(line.starts_with("ERROR"), "{line}");
        assert!(line.contains(&format!("context=\"{name}\"")), "{line}");
        let says = format!("the teardown of `{name}` {what}");
        assert!(line.contains(&says), "{line}");
    }
}

#[actxmgr]
async fn connection(goodbye: Duration) {
    yield_().await;
    sleep(goodbye).await;
}

#[actxmgr]
async fn pool() {
    yield_().await;
}

#[actxmgr]
async fn pool_that_drops_one() {
    drop(connection(SHORT).await);
    yield_().await;
}

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(10);

fn an_exit_that_overtakes_what_was_dropped_says_so() {
    let lines = logged(Level::DEBUG, async {
        let overtaking = pool().await;
        drop(connection(LONG).await);
        overtaking.exit().await;
        drain(Duration::MAX).await;

        // Also one that waits for what is inside it.
        let overtaking = pool_that_drops_one().await;
        drop(connection(LONG).await);
        overtaking.exit().await;
        drain(Duration::MAX).await;

        // None of these overtakes anything.
        let before = connection(LONG).await;
        let after = pool().await;
        drop(before);
        after.exit().await;
        let beside = pool().await;
        let other = async { drop(connection(LONG).await) };
        tokio::spawn(other).await.unwrap();
        beside.exit().await;
        let settled = pool().await;
        drop(connection(LONG).await);
        settle().await;
        settled.exit().await;
        let alone = pool_that_drops_one().await;
        alone.exit().await;
        drain(Duration::MAX).await;
    });
    let says = "torn down before a context that was entered after it, and was dropped";
    let expected =
        ["pool", "pool_that_drops_one"].map(|name| format!("DEBUG {says} context=\"{name}\""));
    assert_eq!(lines, expected);
}
