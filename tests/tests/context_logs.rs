//! What is logged of teardowns with nobody to tell. In a program of its own, with one test: where one thread
//! logs without a subscriber while another one installs its own, tracing may take the event for one that nobody
//! wants.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use aioxide::{Elapsed, actxmgr, drain};
use tokio::runtime::Builder;

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

#[test]
fn each_kind_of_error_is_logged_with_the_functions_name() {
    let (mut log, writer) = UnixStream::pair().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(Arc::new(writer))
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            drop(failing().await.unwrap());
            drain(Duration::MAX).await;
            drop(panicking().await);
            drain(Duration::MAX).await;
            drop(slow().await.unwrap());
            drain(Duration::MAX).await;
            drop(stuck().await);
        });
    });
    let mut text = String::new();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    log.read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        ("failing", "failed: disk full"),
        ("panicking", "panicked: number 7"),
        ("slow", "was given up: it took longer than 50ms"),
        (
            "stuck",
            "was abandoned half-way: the runtime that it was entered on has ended",
        ),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (name, what)) in lines.iter().zip(expected) {
        assert!(line.trim_start().starts_with("ERROR"), "{line}");
        assert!(line.contains(&format!("context=\"{name}\"")), "{line}");
        let says = format!("the teardown of `{name}` {what}");
        assert!(line.contains(&says), "{line}");
    }
}
