//! What contexts allocate. The allocator counts for the whole process: one test at a time.

use std::alloc::System;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aioxide::{actxmgr, drain};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const DEADLINE: Duration = Duration::from_secs(120);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[actxmgr]
async fn numbered(n: u64) -> std::io::Result<u64> {
    yield_(n).await;
    Ok(())
}

#[actxmgr(borrowed)]
async fn lent(n: &u64) -> std::io::Result<u64> {
    yield_(*n).await;
    Ok(())
}

#[test]
fn an_enter_and_exit_allocates_once() {
    let _alone = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let guards = fewest(&runtime, async || {
        for n in 0..100 {
            numbered(n).await.unwrap().exit().await.unwrap();
        }
    });
    assert!(guards.allocations <= 100, "{guards:?}");
    assert_eq!(guards.allocations, guards.deallocations);

    let with = fewest(&runtime, async || {
        for n in 0..100 {
            let same = numbered(n)
                .with(async |n| Ok::<_, std::io::Error>(*n))
                .await;
            assert_eq!(same.unwrap(), n);
        }
    });
    assert!(with.allocations <= 100, "{with:?}");

    let borrowed = fewest(&runtime, async || {
        for n in 0..100 {
            lent(&n).await.unwrap().exit().await.unwrap();
        }
    });
    assert!(borrowed.allocations <= 200, "{borrowed:?}");
}

/// What `work` allocates, at the least of a few times: the thread that runs the tests now and then tells of another
/// one, which allocates too.
fn fewest(runtime: &Runtime, work: impl AsyncFn()) -> Stats {
    let once = |_| {
        runtime.block_on(async {
            let region = Region::new(ALLOCATOR);
            work().await;
            region.change()
        })
    };
    let changes = (0..5).map(once);
    changes
        .min_by_key(|change| change.allocations.max(change.deallocations))
        .unwrap()
}

static TORN_DOWN: AtomicU64 = AtomicU64::new(0);

/// Suspends in its teardown.
#[actxmgr]
async fn counted(payload: [u8; 100]) -> [u8; 100] {
    yield_(payload).await;
    tokio::task::yield_now().await;
    TORN_DOWN.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_hundred_thousand_cancelled_at_once_leave_nothing_behind() {
    const CONTEXTS: u64 = 100_000;
    let _alone = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // In the order of entering, against it, and each by a task of its own.
    let storms: [fn(Vec<aioxide::Guard<aioxide::Always<[u8; 100]>>>); 3] = [
        drop,
        |mut guards| while guards.pop().is_some() {},
        |guards| {
            for guard in guards {
                tokio::spawn(async move { drop(guard) });
            }
        },
    ];
    let storm = |storm: fn(_)| {
        let before = TORN_DOWN.load(Ordering::Relaxed);
        runtime.block_on(async {
            let mut guards = Vec::new();
            for _ in 0..CONTEXTS {
                guards.push(counted([1; 100]).await);
            }
            storm(guards);
            let torn_down = || TORN_DOWN.load(Ordering::Relaxed) - before;
            let complete = async {
                while torn_down() < CONTEXTS {
                    assert_eq!(drain(DEADLINE).await.abandoned.len(), 0);
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, complete)
                .await
                .expect("all of them end");
            assert_eq!(torn_down(), CONTEXTS);
        });
    };
    // What the runtime keeps for its tasks it has by then.
    storms.into_iter().for_each(storm);
    let region = Region::new(ALLOCATOR);
    storms.into_iter().for_each(storm);
    let change = region.change();
    let kept = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
    assert!(kept < 2_000_000, "{kept} bytes are kept: {change:?}");
}
