//! What is logged of failures that nobody gets. In a program of its own, with one test: see `context_logs`.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use aioxide::{Ignore, Restart, actxmgr, drain, scope};
use tokio::runtime::Builder;

fn broken(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

/// Written in full, it tells its cause, as anyhow's errors do.
struct Caused(&'static str);

impl fmt::Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = if f.alternate() { ": the root" } else { "" };
        write!(f, "{}{cause}", self.0)
    }
}

#[actxmgr]
async fn slow() {
    yield_().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
}

#[test]
fn each_failure_that_is_not_returned_is_logged() {
    let (mut log, writer) = UnixStream::pair().unwrap();
    let subscriber = tracing_subscriber::fmt()
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
        runtime.block_on(async {
            // The first is returned.
            let ended = scope()
                .grace(Duration::from_secs(1))
                .with(async |scope| {
                    let told = scope.cancelled();
                    scope.spawn_named("second", async move {
                        told.await;
                        Err::<(), _>(broken("no goodbye"))
                    });
                    let told = scope.cancelled();
                    scope.spawn(async move {
                        told.await;
                        panic!("number {}", 3);
                    });
                    scope.spawn_named("first", async { Err::<(), _>(broken("the cause")) });
                    Ok::<_, io::Error>(())
                })
                .await;
            assert_eq!(ended.unwrap_err().to_string(), "the cause");

            // That of the body is returned.
            let ended = scope()
                .with(async |scope| {
                    let told = scope.cancelled();
                    scope.spawn_named("after the body", async move {
                        told.await;
                        Err::<(), _>(broken("never polled"))
                    });
                    scope.spawn_named("alone", async { Ok(()) }).await?;
                    Err::<(), _>(broken("of the body"))
                })
                .await;
            assert_eq!(ended.unwrap_err().to_string(), "of the body");

            scope::<io::Error>()
                .on_failure(Ignore)
                .with(async |scope| {
                    scope.spawn_named("connection 7", async { Err::<(), _>(broken("reset")) });
                    Ok::<_, io::Error>(())
                })
                .await
                .unwrap();

            let rule = Restart {
                backoff: Duration::ZERO,
                max: 1,
                ..Restart::default()
            };
            let ended = scope()
                .with(async |scope| {
                    scope
                        .supervise_forever("feed", rule, || async { Err::<(), _>(broken("down")) });
                    Ok::<_, io::Error>(())
                })
                .await;
            assert_eq!(ended.unwrap_err().to_string(), "down");

            // Nobody is there to get it.
            let guard = scope::<io::Error>().await.unwrap();
            guard.spawn(async { Err::<(), _>(broken("lost")) });
            guard.cancelled().await;
            drop(guard);
            drain(Duration::from_secs(1)).await;

            // All of them are written in full.
            let rule = Restart {
                backoff: Duration::ZERO,
                max: 1,
                ..Restart::default()
            };
            let ended = scope()
                .grace(Duration::from_secs(1))
                .with(async |scope| {
                    let told = scope.cancelled();
                    scope.spawn_named("second", async move {
                        told.await;
                        Err::<(), _>(Caused("no goodbye"))
                    });
                    scope
                        .supervise_forever("feed", rule, || async { Err::<(), _>(Caused("down")) });
                    Ok::<_, Caused>(())
                })
                .await;
            assert_eq!(ended.unwrap_err().to_string(), "down");
            let guard = scope::<Caused>().await;
            let guard = guard.unwrap_or_else(|error| panic!("{error}"));
            guard.spawn(async { Err::<(), _>(Caused("lost")) });
            guard.cancelled().await;
            drop(guard);
            drain(Duration::from_secs(1)).await;

            // The first one too, if the scope ends before it can be returned.
            let ended = scope()
                .teardown_timeout(Duration::from_secs(1))
                .with(async |scope| {
                    scope.spawn(async {
                        let _slow = slow().await;
                        Err::<(), _>(broken("disk full"))
                    });
                    Ok::<_, io::Error>(())
                })
                .await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
            drain(Duration::from_secs(20)).await;
        });
    });
    let mut text = String::new();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    log.read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let expected = [
        "ERROR `second`, a task of a scope, failed: no goodbye task=\"second\"",
        "ERROR a task of a scope panicked: number 3",
        "ERROR `connection 7`, a task of a scope, failed: reset task=\"connection 7\"",
        "ERROR `feed`, a task of a scope, failed; it is started again in 0ns: down task=\"feed\"",
        "WARN `feed` failed 2 times within 60s, more than 1 times task=\"feed\"",
        "ERROR the teardown of `scope` failed: lost context=\"scope\"",
        "ERROR `feed`, a task of a scope, failed; it is started again in 0ns: down: the root task=\"feed\"",
        "WARN `feed` failed 2 times within 60s, more than 1 times task=\"feed\"",
        "ERROR `second`, a task of a scope, failed: no goodbye: the root task=\"second\"",
        "ERROR the teardown of `scope` failed: lost: the root context=\"scope\"",
        "ERROR a task of a scope failed: disk full",
    ];
    assert_eq!(lines, expected);
}
