//! The future that waits for the one request to stop that a worker ever gets.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio_util::sync::WaitForCancellationFutureOwned;

use super::shared::Shared;
use crate::server::Stop;

/// A future of a worker's [`Stop`]: ready once the worker is asked to stop, and from then on. A server that
/// [runs to completion](crate::server::Server::run_to_completion) gives it at once.
///
/// It may be cloned, polled again after it was ready, and dropped at any time: nothing is lost.
/// [`Worker::stopping`](crate::server::Worker::stopping) and [`Worker::ready`](crate::server::Worker::ready) give it.
#[must_use = "futures do nothing unless awaited"]
pub struct Stopping {
    worker: Arc<Shared>,
    /// Whether the first poll makes the worker ready.
    announce: bool,
    at_once: Option<Stop>,
    waiting: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Whom `waiting` wakes.
    waker: Option<Waker>,
}

impl Stopping {
    /// The worker's yield.
    pub(crate) fn ready(worker: Arc<Shared>) -> Stopping {
        let at_once = worker.identity.to_completion;
        Stopping {
            worker,
            announce: true,
            at_once,
            waiting: None,
            waker: None,
        }
    }

    pub(crate) fn new(worker: Arc<Shared>, announce: bool) -> Stopping {
        Stopping {
            worker,
            announce,
            at_once: None,
            waiting: None,
            waker: None,
        }
    }
}

impl Future for Stopping {
    type Output = Stop;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Stop> {
        let this = &mut *self;
        if std::mem::take(&mut this.announce) {
            this.worker.announce_ready();
        }
        let cell = &this.worker.told.stop;
        loop {
            if let Some(stop) = cell.get().or(this.at_once) {
                return Poll::Ready(stop);
            }
            // A task that does something else as well polls it again and again.
            if this
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                return Poll::Pending;
            }
            let waiting = this.waiting.get_or_insert_with(|| Box::pin(cell.told()));
            if waiting.as_mut().poll(cx).is_pending() {
                this.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            (this.waiting, this.waker) = (None, None);
        }
    }
}

impl Clone for Stopping {
    fn clone(&self) -> Stopping {
        Stopping {
            worker: Arc::clone(&self.worker),
            announce: self.announce,
            at_once: self.at_once,
            waiting: None,
            waker: None,
        }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping")
            .field("stop", &self.worker.told.stop.get())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::time::Instant;

    use crate::server::StopReason;
    use crate::server::line::Told;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_polled_it_last_is_woken_however_often_that_was() {
        let told = Arc::new(Told::default());
        let mut stopping = Stopping::new(Shared::alone(Arc::clone(&told)), false);
        let mut poll = |by: &Arc<Woken>| {
            let waker = Waker::from(Arc::clone(by));
            Pin::new(&mut stopping).poll(&mut Context::from_waker(&waker))
        };
        let [first, last] = [(); 2].map(|()| Arc::new(Woken::default()));
        for by in [&first, &first, &last, &last] {
            assert!(poll(by).is_pending());
        }
        told.stop
            .set(Stop::new(StopReason::Completed, Instant::now()));
        let woken = [&first, &last].map(|by| by.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1]);
        for by in [&last, &first] {
            assert!(poll(by).is_ready());
        }
    }
}
