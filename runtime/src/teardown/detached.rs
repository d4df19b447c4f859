//! The task of a teardown that was left to itself, and what is done where no task can be had.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use tokio::runtime::Handle;
use tracing::Instrument;

use super::ledger::{Fate, Ticket};
use super::order::{self, Wait};
use super::place::Place;
use super::report::{TeardownError, report, report_panic};
use super::stats::COUNTERS;
#[cfg(feature = "monitor")]
use crate::census;

/// The rest of a teardown.
pub(crate) trait Job: Future<Output = Result<(), TeardownError>> + Unpin {}

impl<F: Future<Output = Result<(), TeardownError>> + Unpin> Job for F {}

/// Where a context was entered: where its teardown runs and what it waits for.
pub(crate) struct Origin {
    pub(crate) name: &'static str,
    pub(crate) handle: Option<Handle>,
    pub(crate) span: tracing::Span,
    pub(crate) place: Place,
    /// Its number in `place`.
    pub(crate) at: u64,
    /// It was dropped half-way through.
    pub(crate) begun: bool,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::AcqRel);
}

/// Runs `job` on the runtime of `origin`. Called from `Drop`: it neither blocks nor panics.
pub(crate) fn detach<J: Job + Send + 'static>(origin: Origin, job: J) {
    let Origin {
        name,
        handle,
        span,
        place,
        at,
        begun,
    } = origin;
    let Some(handle) = handle else {
        return span.in_scope(|| {
            poll_once(
                name,
                None,
                job,
                "its context was entered outside a tokio runtime, and one poll was not enough",
            );
        });
    };
    count(&COUNTERS.detached);
    let (ticket, turn) = order::arrive(name, handle.id(), &place, at, begun);
    let task = Task {
        name,
        ticket,
        place,
        turn,
        work: Work::Due(job),
    };
    handle.spawn(task.instrument(span));
}

/// Gives `job` the one poll that can be had without a task, and reports it if it isn't done by then.
///
/// `runtime` is the one that it may need.
pub(crate) fn poll_once(
    name: &'static str,
    runtime: Option<Handle>,
    mut job: impl Job,
    reason: &'static str,
) {
    count(&COUNTERS.detached);
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let _inside = runtime.as_ref().map(Handle::enter);
        Pin::new(&mut job).poll(&mut Context::from_waker(Waker::noop()))
    }));
    match polled {
        Ok(Poll::Ready(result)) => settle(result),
        Ok(Poll::Pending) => abandon(name, reason),
        Err(panic) => settle(Err(TeardownError::panicked(name, panic))),
    }
    drop_quietly(name, job);
}

fn settle(result: Result<(), TeardownError>) {
    match result {
        Ok(()) => count(&COUNTERS.completed),
        Err(error) => {
            count(&COUNTERS.failed);
            #[cfg(feature = "monitor")]
            census::failed(error.name());
            report(&error);
        }
    }
}

fn abandon(name: &'static str, reason: &'static str) {
    count(&COUNTERS.abandoned);
    #[cfg(feature = "monitor")]
    census::failed(name);
    report(&TeardownError::Abandoned { name, reason });
}

/// Drops what the user's code left behind; a panic in there is reported.
fn drop_quietly(name: &'static str, left: impl Sized) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(left))) {
        report_panic(name, panic);
    }
}

struct Task<J: Job> {
    name: &'static str,
    ticket: Ticket,
    place: Place,
    /// Those that go before this one; once it has run, those that it has dropped itself.
    turn: Option<Wait>,
    work: Work<J>,
}

enum Work<J> {
    Due(J),
    /// It has ended like this, but maybe not all that is inside it.
    Done(Result<(), TeardownError>),
    Over,
}

impl<J: Job> Future for Task<J> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if let Some(turn) = &mut this.turn {
                ready!(Pin::new(turn).poll(cx));
                this.turn = None;
            }
            match &mut this.work {
                Work::Due(job) => {
                    let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(job).poll(cx)));
                    let result = match polled {
                        Ok(Poll::Pending) => return Poll::Pending,
                        Ok(Poll::Ready(result)) => result,
                        Err(panic) => Err(TeardownError::panicked(this.name, panic)),
                    };
                    let done = Work::Done(result);
                    drop_quietly(this.name, std::mem::replace(&mut this.work, done));
                }
                Work::Done(_) => {
                    this.turn = order::last_wait(this.ticket);
                    if this.turn.is_none() {
                        this.over(Fate::Ended);
                    }
                }
                Work::Over => return Poll::Ready(()),
            }
        }
    }
}

impl<J: Job> Unpin for Task<J> {}

impl<J: Job> Task<J> {
    fn over(&mut self, fate: Fate) {
        match std::mem::replace(&mut self.work, Work::Over) {
            Work::Due(job) => {
                drop_quietly(self.name, job);
                abandon(self.name, "the runtime that it was entered on has ended");
            }
            Work::Done(result) => settle(result),
            Work::Over => return,
        }
        order::end(self.ticket, fate, &self.place);
    }
}

impl<J: Job> Drop for Task<J> {
    /// A runtime that ends drops its tasks, and drops unpolled what is spawned on it afterwards.
    fn drop(&mut self) {
        self.over(match self.work {
            Work::Due(_) => Fate::Abandoned,
            Work::Done(_) | Work::Over => Fate::Ended,
        });
    }
}
