//! The counts of a whole process, and so a program of its own with one test.

use std::io;
use std::time::Duration;

use aioxide::teardown::{Stats, stats};
use aioxide::{Elapsed, actxmgr, drain};
use tokio::runtime::Builder;

/// How a teardown ends.
enum End {
    Well,
    Err,
    Panic,
    Never,
}

#[actxmgr(teardown_timeout = 50ms)]
async fn bounded(end: End) -> Result<(), Elapsed> {
    yield_().await;
    match end {
        End::Never => std::future::pending().await,
        _ => Ok(()),
    }
}

#[actxmgr]
async fn ending(end: End) -> io::Result<()> {
    yield_().await;
    tokio::task::yield_now().await;
    match end {
        End::Well => Ok(()),
        End::Err => Err(io::Error::other("disk full")),
        End::Panic => panic!("in the teardown"),
        End::Never => std::future::pending().await,
    }
}

#[actxmgr(borrowed)]
async fn lent(polls: &u8) {
    yield_().await;
    for _ in 0..*polls {
        tokio::task::yield_now().await;
    }
}

fn counts() -> [u64; 4] {
    let Stats {
        detached,
        completed,
        failed,
        abandoned,
        ..
    } = stats();
    [detached, completed, failed, abandoned]
}

#[test]
fn every_end_is_counted_once() {
    assert_eq!(stats(), Stats::default());
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        ending(End::Well).await.unwrap().exit().await.unwrap();
        ending(End::Err).await.unwrap().exit().await.unwrap_err();
        assert_eq!(stats(), Stats::default(), "their callers took them");

        for end in [End::Well, End::Well, End::Err, End::Panic] {
            drop(ending(end).await.unwrap());
        }
        drop(bounded(End::Never).await.unwrap());
        assert_eq!(counts(), [5, 0, 0, 0]);
        drain(Duration::MAX).await;
        assert_eq!(counts(), [5, 2, 3, 0]);

        drop(ending(End::Never).await.unwrap());
        drain(Duration::from_secs(1)).await;
        assert_eq!(counts(), [6, 2, 3, 0], "given up by the drain alone");
    });
    drop(runtime);
    assert_eq!(counts(), [6, 2, 3, 1]);

    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(lent(&1).await) });
    assert_eq!(counts(), [7, 2, 3, 2]);
    runtime.block_on(async { drop(lent(&0).await) });
    assert_eq!(counts(), [8, 3, 3, 2]);
}
