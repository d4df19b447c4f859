//! What the guide says of crates that neither aioxide nor its documentation needs.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;

/// `@lru_cache(maxsize=2)`
fn lru_cache() -> Cache<u32, u32> {
    Cache::builder()
        .max_capacity(2)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

#[tokio::test]
async fn the_least_recently_used_entry_makes_room() {
    let cache = lru_cache();
    for key in [1, 2, 1, 3] {
        assert_eq!(cache.get_with(key, async { key * 10 }).await, key * 10);
    }
    cache.run_pending_tasks().await;
    let kept = [1, 2, 3].map(|key| cache.contains_key(&key));
    assert_eq!(kept, [true, false, true]);
}

#[tokio::test]
async fn the_default_policy_may_refuse_a_newcomer() {
    let cache = Cache::builder().max_capacity(2).build();
    for key in [1, 2, 1, 2, 1, 2, 3] {
        cache.get_with(key, async { key * 10 }).await;
    }
    cache.run_pending_tasks().await;
    assert!(
        !cache.contains_key(&3),
        "it would have to be no less popular"
    );
}

#[tokio::test]
async fn concurrent_callers_share_one_call_and_an_error_is_not_kept() {
    let cache = lru_cache();
    let calls = AtomicUsize::new(0);
    let slow = || async {
        calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        7
    };
    let both = tokio::join!(cache.get_with(1, slow()), cache.get_with(1, slow()));
    assert_eq!((both, calls.into_inner()), ((7, 7), 1));

    let fails = async { Err(io::Error::other("no luck")) };
    assert!(cache.try_get_with(2, fails).await.is_err());
    assert_eq!(
        cache
            .try_get_with(2, async { Ok::<_, io::Error>(8) })
            .await
            .unwrap(),
        8
    );
}

/// `expire_after` counts from the last calculation, whatever is read in between.
#[tokio::test]
async fn an_entry_expires_after_its_time_to_live() {
    let cache = Cache::builder()
        .time_to_live(Duration::from_millis(50))
        .build();
    let start = std::time::Instant::now();
    cache.insert(1, 10).await;
    while cache.get(&1).await.is_some() {
        assert!(
            start.elapsed() < aioxide_tests::PATIENCE,
            "it never expires"
        );
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed() >= Duration::from_millis(50));
}
