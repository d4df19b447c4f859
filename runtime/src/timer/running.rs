//! A running tick, and how it ends.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep};

use super::failure::TickError;
use super::inside::Inside;
use super::schedule::Nanos;
use super::shared::Shared;
use super::single::Guard;
use super::tick::Tick;
use super::ticks::Ticks;
use super::verdict::{End, Verdict};
use super::watching::Watching;
use crate::panic;
use crate::teardown::{InnerPlace, Wait};

/// A tick whose future is gone, and which ends once the teardowns of its place have.
pub(super) struct Settling {
    verdict: Option<Verdict>,
    place: InnerPlace,
    wait: Option<Wait>,
}

impl Settling {
    pub(super) fn new(verdict: Verdict, place: InnerPlace) -> Settling {
        Settling {
            verdict: Some(verdict),
            place,
            wait: None,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        while self.place.has_pending() {
            ready!(self.place.poll_settled(&mut self.wait, cx));
            self.wait = None;
        }
        match self.verdict.take() {
            Some(verdict) => Poll::Ready(verdict),
            None => Poll::Pending,
        }
    }
}

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

/// Polls the tick of this number, which `fresh` starts.
pub(super) fn poll_tick(
    mut ticks: Pin<&mut dyn Ticks>,
    fresh: &mut Option<Tick>,
    timeout: Option<&mut Timeout>,
    shared: &Shared,
    number: u64,
    cx: &mut Context<'_>,
) -> Poll<End> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        if let Some(tick) = fresh.take() {
            ticks.as_mut().start(tick);
        }
        let _inside = Inside::enter(shared, number);
        ticks.poll(cx)
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
    /// When it was due, on the schedule's clock.
    pub(super) due: Nanos,
    /// With a lease: whether it may be polled.
    pub(super) guard: Option<Arc<Guard>>,
    /// Present until it has ended.
    pub(super) ticks: Option<Pin<Box<dyn Ticks>>>,
    pub(super) place: InnerPlace,
    pub(super) settling: Option<Settling>,
    pub(super) timeout: Option<Timeout>,
    /// What the hook is told in case of a failure.
    pub(super) tick: Option<Tick>,
    pub(super) watching: Watching,
}

impl Entry {
    /// Drops the tick's future. A panic of it goes no further.
    fn clear(&mut self) {
        let Some(ticks) = self.ticks.take() else {
            return;
        };
        let (shared, index) = (&self.shared, self.index);
        self.place.run(|| shared.drop_caught(index, || drop(ticks)));
    }

    fn settle(&mut self, verdict: Verdict) {
        self.clear();
        let place = std::mem::replace(&mut self.place, InnerPlace::nowhere());
        self.settling = Some(Settling::new(verdict, place));
    }

    /// Drops the tick before its end. What is left to do is to settle.
    pub(super) fn cancel(&mut self) {
        if self.settling.is_none() {
            self.settle(Verdict::Cancelled);
        }
    }
}

/// What is left of a tick that has ended.
pub(super) struct Ended {
    pub(super) index: u64,
    pub(super) due: Nanos,
    pub(super) verdict: Verdict,
    pub(super) tick: Option<Tick>,
    pub(super) watching: Watching,
}

impl Future for Entry {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        if let Some(ticks) = &mut this.ticks {
            let guard = this.guard.as_ref();
            if guard.is_some_and(|guard| guard.is_over(this.shared.now())) {
                // The driver, which looks at the lease next, drops it, or it goes on if the lease was renewed meanwhile.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (timeout, shared, number) = (this.timeout.as_mut(), &this.shared, this.number);
            let poll = || poll_tick(ticks.as_mut(), &mut None, timeout, shared, number, cx);
            let end = ready!(this.place.run(poll));
            let verdict = Verdict::of(end, this.shared.is_asked(this.number));
            this.settle(verdict);
        }
        let Some(settling) = &mut this.settling else {
            return Poll::Pending;
        };
        let verdict = ready!(settling.poll(cx));
        Poll::Ready(Ended {
            index: this.index,
            due: this.due,
            verdict,
            tick: this.tick.take(),
            watching: std::mem::take(&mut this.watching),
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.clear();
    }
}
