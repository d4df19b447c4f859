//! Timers in the workers of a server: nothing of them is left when the worker has gone.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use aioxide::{Timer, Worker, actxmgr, server, timer};

#[timer(1ms)]
async fn count(ticks: Arc<AtomicU64>) {
    ticks.fetch_add(1, Ordering::Relaxed);
}

#[actxmgr]
async fn counting(ticks: Arc<AtomicU64>) {
    let timer = count(ticks);
    yield_().await;
    timer.stop().await;
}

#[derive(Clone, Copy)]
enum Leaves {
    /// Through a guard that is dropped.
    ByGuard,
    /// By a timer that is dropped.
    ByDrop,
    /// Not at all: the timer goes on for as long as there is a runtime.
    Detached,
}

async fn has_ticked(ticks: &AtomicU64) {
    while ticks.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
}

/// Gives no sign of the timer's end: what becomes of it is up to the worker that goes.
async fn leave(leaves: Leaves, ticks: &Arc<AtomicU64>) {
    match leaves {
        Leaves::ByGuard => {
            let _guard = counting(Arc::clone(ticks)).await;
            has_ticked(ticks).await;
        }
        Leaves::ByDrop => {
            let _timer: Timer = count(Arc::clone(ticks));
            has_ticked(ticks).await;
        }
        Leaves::Detached => {
            count(Arc::clone(ticks)).detach();
            has_ticked(ticks).await;
        }
    }
}

#[server(workers = 2, run_to_completion)]
async fn ticking(worker: Worker, leaves: Leaves, ticks: Arc<AtomicU64>) {
    assert!(worker.index() < 2);
    leave(leaves, &ticks).await;
    yield_().await;
}

#[test]
fn no_timer_outlives_its_worker() {
    for leaves in [Leaves::ByGuard, Leaves::ByDrop, Leaves::Detached] {
        let ticks = Arc::new(AtomicU64::new(0));
        assert_eq!(ticking(leaves, Arc::clone(&ticks)).run(), ExitCode::SUCCESS);
        // Every tick, due or running, would hold its argument.
        assert_eq!(Arc::strong_count(&ticks), 1);
        assert!(ticks.load(Ordering::Relaxed) >= 3);
    }
}

/// The argument of the timers of the worker that leaves.
type Left = Arc<Mutex<Option<Weak<AtomicU64>>>>;

#[server(workers = 2, run_to_completion)]
async fn one_leaves(worker: Worker, leaves: Leaves, left: Left) {
    if worker.index() == 0 {
        let ticks = Arc::new(AtomicU64::new(0));
        *left.lock().unwrap() = Some(Arc::downgrade(&ticks));
        leave(leaves, &ticks).await;
    } else {
        let has_gone = || {
            let left = left.lock().unwrap();
            left.as_ref().is_some_and(|left| left.strong_count() == 0)
        };
        let going = async {
            while !has_gone() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), going)
            .await
            .expect("a timer outlives its worker, or its server");
    }
    yield_().await;
}

/// The other worker sees it, which leaves only then.
#[test]
fn no_timer_outlives_its_worker_while_the_server_goes_on() {
    for leaves in [Leaves::ByGuard, Leaves::ByDrop, Leaves::Detached] {
        let left = Left::default();
        assert_eq!(
            one_leaves(leaves, Arc::clone(&left)).run(),
            ExitCode::SUCCESS
        );
        assert!(left.lock().unwrap().is_some());
    }
}
