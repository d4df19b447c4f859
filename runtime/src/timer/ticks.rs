//! What depends on the type of the ticks. It is compiled anew for each timer, so it is as little as possible.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::tick::{Tick, TickReturn};
use crate::teardown::Place;

/// Makes ticks, and holds the one that runs: it lies where the one before it lay, in memory of the timer's.
pub(super) trait Ticks: Send {
    /// Starts a tick, which is held.
    fn start(self: Pin<&mut Self>, tick: Tick);

    /// Starts a tick that is to run beside others.
    fn apart(self: Pin<&mut Self>, tick: Tick) -> Pin<Box<dyn Ticks>>;

    /// Polls the tick that is held, and gives its error once it has ended.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>>;

    /// Drops the tick that is held.
    fn clear(self: Pin<&mut Self>);

    /// Where the timer was started: each tick is a place inside that.
    fn starter(&self) -> &Place;
}

pin_project! {
    pub(super) struct Seat<F, Fut> {
        // First: dropped before the closure that made it.
        #[pin]
        running: Option<Fut>,
        // Absent beside a tick that runs apart, whose place would be compiled as well if it had another type.
        make: Option<F>,
        // Here, where there is room for it; see `Shared`.
        starter: Place,
    }
}

impl<F, Fut> Seat<F, Fut> {
    pub(super) fn new(make: F) -> Seat<F, Fut> {
        Seat {
            running: None,
            make: Some(make),
            starter: Place::current(),
        }
    }
}

impl<F, Fut> Ticks for Seat<F, Fut>
where
    F: FnMut(Tick) -> Fut + Send + 'static,
    Fut: Future<Output: TickReturn> + Send + 'static,
{
    fn start(self: Pin<&mut Self>, tick: Tick) {
        let mut this = self.project();
        let running = this.make.as_mut().map(|make| make(tick));
        this.running.set(running);
    }

    fn apart(self: Pin<&mut Self>, tick: Tick) -> Pin<Box<dyn Ticks>> {
        let this = self.project();
        Box::pin(Seat {
            running: this.make.as_mut().map(|make| make(tick)),
            make: None::<F>,
            starter: this.starter.clone(),
        })
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let Some(running) = self.project().running.as_pin_mut() else {
            return Poll::Pending;
        };
        match running.poll(cx) {
            Poll::Ready(end) => Poll::Ready(error_of(end.failure())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn clear(self: Pin<&mut Self>) {
        self.project().running.set(None);
    }

    fn starter(&self) -> &Place {
        &self.starter
    }
}

#[inline]
fn error_of(failure: Option<&dyn Display>) -> Option<String> {
    // With anyhow and eyre the chain of causes.
    failure.map(|error| format!("{error:#}"))
}
