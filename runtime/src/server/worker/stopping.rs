//! The one request to stop that a worker ever gets, and the future that waits for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::server::Stop;
use crate::server::worker::handle::Shared;

/// Holds a worker's `Stop` once it has been asked to stop; the first request wins.
#[derive(Default)]
pub(crate) struct StopCell {
    stop: Mutex<Option<Stop>>,
    /// For threads that wait without a runtime.
    told: Condvar,
    /// For tasks; cancelled after `stop` is set.
    token: CancellationToken,
}

impl StopCell {
    pub(crate) fn set(&self, stop: Stop) {
        let mut slot = self.lock();
        if slot.is_none() {
            *slot = Some(stop);
            self.told.notify_all();
            self.token.cancel();
        }
    }

    pub(crate) fn get(&self) -> Option<Stop> {
        *self.lock()
    }

    pub(crate) fn wait_blocking(&self) -> Stop {
        let mut slot = self.lock();
        loop {
            match *slot {
                Some(stop) => return stop,
                None => slot = self.told.wait(slot).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stop>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
        }
    }

    pub(crate) fn new(worker: Arc<Shared>, announce: bool) -> Stopping {
        Stopping {
            worker,
            announce,
            at_once: None,
            waiting: None,
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
        let cell = &this.worker.stop;
        loop {
            if let Some(stop) = cell.get().or(this.at_once) {
                return Poll::Ready(stop);
            }
            let waiting = this
                .waiting
                .get_or_insert_with(|| Box::pin(cell.token.clone().cancelled_owned()));
            ready!(waiting.as_mut().poll(cx));
            this.waiting = None;
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
        }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping")
            .field("stop", &self.worker.stop.get())
            .finish()
    }
}
