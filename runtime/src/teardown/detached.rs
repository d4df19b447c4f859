//! The task of a teardown that was left to itself, and what is done where no task can be had.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tracing::Instrument;

use super::ledger::{Arrival, Fate, Ticket, Turn};
use super::order::{Origin, PENDING, ledger, poll_turn};
use super::report::{TeardownError, report, report_panic};
use super::stats::COUNTERS;

/// The rest of a teardown.
pub(crate) trait Job: Future<Output = Result<(), TeardownError>> + Unpin {}

impl<F: Future<Output = Result<(), TeardownError>> + Unpin> Job for F {}

/// Where a context was entered: where its teardown runs and what it waits for.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) handle: Option<Handle>,
    pub(crate) span: tracing::Span,
    pub(crate) seq: u64,
    pub(crate) group: u64,
}

thread_local! {
    /// The detached teardown that is polled on this thread.
    static CURRENT: Cell<Option<Ticket>> = const { Cell::new(None) };
}

pub(super) fn current() -> Option<Ticket> {
    CURRENT.get()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::AcqRel);
}

/// Runs `job` on the runtime of `place`. Called from `Drop`: it neither blocks nor panics.
pub(crate) fn detach<J: Job + Send + 'static>(place: Place, job: J) {
    let Some(handle) = place.handle else {
        let name = place.name;
        return place.span.in_scope(|| {
            poll_once(
                name,
                None,
                job,
                "its context was entered outside a tokio runtime, and one poll was not enough",
            );
        });
    };
    count(&COUNTERS.detached);
    let (ticket, turn) = {
        let mut ledger = ledger();
        PENDING.fetch_add(1, Ordering::AcqRel);
        ledger.arrive(Arrival {
            name: place.name,
            runtime: handle.id(),
            origin: Origin::current(),
            seq: place.seq,
            group: place.group,
        })
    };
    let task = Task {
        name: place.name,
        ticket,
        turn,
        job: Some(job),
    };
    handle.spawn(task.instrument(place.span));
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
            report(&error);
        }
    }
}

fn abandon(name: &'static str, reason: &'static str) {
    count(&COUNTERS.abandoned);
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
    /// Present until the teardowns that go before this one have ended.
    turn: Option<Turn<Origin>>,
    /// Present until it has ended.
    job: Option<J>,
}

impl<J: Job> Future for Task<J> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some(turn) = &mut this.turn {
            if poll_turn(turn, cx).is_pending() {
                return Poll::Pending;
            }
            this.turn = None;
        }
        let Some(job) = &mut this.job else {
            return Poll::Ready(());
        };
        let outer = CURRENT.replace(Some(this.ticket));
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(job).poll(cx)));
        CURRENT.set(outer);
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(TeardownError::panicked(this.name, panic)),
        };
        drop_quietly(this.name, this.job.take());
        settle(result);
        end(this.ticket, Fate::Ended);
        Poll::Ready(())
    }
}

impl<J: Job> Unpin for Task<J> {}

impl<J: Job> Drop for Task<J> {
    /// A runtime that ends drops its tasks, and drops unpolled what is spawned on it afterwards.
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            drop_quietly(self.name, job);
            abandon(self.name, "the runtime that it was entered on has ended");
            end(self.ticket, Fate::Abandoned);
        }
    }
}

fn end(ticket: Ticket, fate: Fate) {
    let mut wake = Vec::new();
    {
        let mut ledger = ledger();
        ledger.end(ticket, fate, &mut wake);
        PENDING.fetch_sub(1, Ordering::AcqRel);
    }
    wake.into_iter().for_each(Waker::wake);
}
