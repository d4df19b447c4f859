//! What tests of scopes have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;

use crate::PATIENCE;

/// One of each kind: a paused clock on one thread, and two threads.
pub fn runtimes() -> [Runtime; 2] {
    let mut current = Builder::new_current_thread();
    let mut multi = Builder::new_multi_thread();
    [
        current
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime can be built"),
        multi
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built"),
    ]
}

/// Runs `test` on a runtime of each kind, and then looks whether it has left a task behind.
pub fn on_both_runtimes<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for runtime in runtimes() {
        runtime.block_on(async {
            timeout(PATIENCE, test()).await.expect("it hangs");
            no_tasks().await;
        });
    }
}

/// Asserts that no task is left on the current runtime. Where tasks run on other threads, one that has ended is
/// still counted for an instant.
pub async fn no_tasks() {
    let metrics = Handle::current().metrics();
    let start = Instant::now();
    while metrics.num_alive_tasks() > 0 {
        let left = metrics.num_alive_tasks();
        assert!(
            metrics.num_workers() > 1 && start.elapsed() < PATIENCE,
            "{left} tasks are left"
        );
        tokio::task::yield_now().await;
    }
}

/// Counts those of its clones that are alive, without itself.
#[derive(Debug, Default)]
pub struct Census(Arc<AtomicUsize>);

/// One that is counted.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Census {
    /// One more.
    pub fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(&self.0))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
