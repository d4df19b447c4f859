//! A running tick, and how it ends.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep};

use super::failure::TickError;
use super::inside::Inside;
use super::shared::Shared;
use super::tick::Tick;
use super::ticks::Ticks;
use crate::panic;

/// How a tick ended by itself.
pub(super) type End = Result<(), TickError>;

/// Ends a tick that takes too long.
pub(super) struct Timeout {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Timeout {
    pub(super) fn new(after: Duration) -> Timeout {
        Timeout {
            after,
            sleep: Box::pin(sleep(after)),
        }
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) {
        // As far as `sleep` goes, for what the clock can't express.
        self.sleep.as_mut().reset(sleep(self.after).deadline());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TickError> {
        // A tick that has used up its share of the poll leaves none for the timeout.
        let sleep = pin!(unconstrained(self.sleep.as_mut()));
        sleep.poll(cx).map(|()| TickError::TimedOut(self.after))
    }
}

/// Polls the tick of this number.
pub(super) fn poll_tick(
    tick: Pin<&mut dyn Ticks>,
    timeout: Option<&mut Timeout>,
    shared: &Shared,
    number: u64,
    cx: &mut Context<'_>,
) -> Poll<End> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let _inside = Inside::enter(shared, number);
        tick.poll(cx)
    }));
    match polled {
        Ok(Poll::Ready(None)) => Poll::Ready(Ok(())),
        Ok(Poll::Ready(Some(error))) => Poll::Ready(Err(TickError::Failed(error))),
        Err(panic) => Poll::Ready(Err(TickError::Panicked(panic::into_text(panic)))),
        Ok(Poll::Pending) => match timeout {
            None => Poll::Pending,
            Some(timeout) => timeout.poll(cx).map(Err),
        },
    }
}

/// One of several running ticks.
pub(super) struct Entry {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) index: u64,
    /// Present until it has ended.
    pub(super) ticks: Option<Pin<Box<dyn Ticks>>>,
    pub(super) timeout: Option<Timeout>,
    /// What the hook is told in case of a failure.
    pub(super) tick: Option<Tick>,
}

impl Future for Entry {
    /// Itself, to be dropped where a panic is caught.
    type Output = (End, Entry);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(ticks) = &mut this.ticks else {
            return Poll::Pending;
        };
        let timeout = this.timeout.as_mut();
        poll_tick(ticks.as_mut(), timeout, &this.shared, this.number, cx).map(|end| {
            let ended = Entry {
                shared: Arc::clone(&this.shared),
                number: this.number,
                index: this.index,
                ticks: this.ticks.take(),
                timeout: this.timeout.take(),
                tick: this.tick.take(),
            };
            (end, ended)
        })
    }
}
