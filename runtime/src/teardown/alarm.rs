//! A timeout where there is no tokio.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::panic;

/// A thread that sleeps.
pub(super) struct Alarm {
    shared: Arc<Mutex<(bool, Option<Waker>)>>,
    thread: Option<std::thread::Thread>,
}

impl Alarm {
    pub(super) fn after(timeout: Duration) -> Alarm {
        let shared = Arc::new(Mutex::new((false, None::<Waker>)));
        let ring = Arc::clone(&shared);
        let deadline = std::time::Instant::now().checked_add(timeout);
        let spawned = std::thread::Builder::new()
            .name("aioxide-drain".to_owned())
            .spawn(move || {
                let is_wanted = || Arc::strong_count(&ring) > 1;
                while is_wanted() {
                    match deadline.map(|deadline| {
                        deadline.saturating_duration_since(std::time::Instant::now())
                    }) {
                        None => std::thread::park(),
                        Some(Duration::ZERO) => break,
                        Some(left) => std::thread::park_timeout(left),
                    }
                }
                let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                ring.0 = true;
                if let Some(waker) = ring.1.take() {
                    waker.wake();
                }
            });
        match spawned {
            Ok(thread) => Alarm {
                shared,
                thread: Some(thread.thread().clone()),
            },
            Err(error) => {
                // Without a thread there is no way to wait with a limit: don't wait.
                panic::guarded(|| {
                    tracing::error!(%error, "no thread for the timeout of a drain outside a runtime");
                });
                shared.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
                Alarm {
                    shared,
                    thread: None,
                }
            }
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.0 {
            return Poll::Ready(());
        }
        shared.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared = Arc::default();
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}
