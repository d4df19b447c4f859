//! The suspended function behind a context, and the slot through which its value leaves and comes back.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::{Elapsed, Exit, Outcome, Return};
use crate::teardown::{self, Place, TeardownError};

/// What is in the slot between the function and its guard.
enum Exchange<V> {
    Empty,
    /// On its way out: the function has reached its yield.
    Yielded(V),
    /// On its way back: the context is left.
    Returned(V, Exit),
}

type Slot<V> = Mutex<Exchange<V>>;

fn put<V>(slot: &Slot<V>, exchange: Exchange<V>) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = exchange;
}

fn take<V>(slot: &Slot<V>) -> Exchange<V> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut *slot, Exchange::Empty)
}

/// The function's end of the slot, good for one yield.
pub struct Yielder<V> {
    slot: Arc<Slot<V>>,
}

impl<V> Yielder<V> {
    /// `yield_(value)`: gives `value` to whoever enters the context; ready when the context is left.
    pub fn give(self, value: V) -> Yield<V> {
        Yield {
            slot: self.slot,
            value: Some(value),
        }
    }
}

/// What a context without a value yields.
#[diagnostic::on_unimplemented(
    message = "`yield_()` yields nothing, but a `{Self}` is due",
    label = "yields nothing",
    note = "write `yield_(value).await`, where `value` is the `{Self}` that the return type declares"
)]
pub trait Nothing {
    #[doc(hidden)]
    fn nothing() -> Self;
}

impl Nothing for () {
    fn nothing() {}
}

impl<V: Nothing> Yielder<V> {
    /// `yield_()`
    pub fn give_nothing(self) -> YieldNothing<V> {
        YieldNothing(self.give(V::nothing()))
    }
}

/// The future of `yield_()`.
pub struct YieldNothing<V>(Yield<V>);

impl<V> Future for YieldNothing<V> {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Exit> {
        Pin::new(&mut self.0).poll(cx).map(|(_, exit)| exit)
    }
}

/// The future of `yield_(value)`.
pub struct Yield<V> {
    slot: Arc<Slot<V>>,
    value: Option<V>,
}

// The value is never pinned.
impl<V> Unpin for Yield<V> {}

impl<V> Future for Yield<V> {
    type Output = (V, Exit);

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<(V, Exit)> {
        // Nobody needs waking: the guard polls on when it has put the value back.
        if let Some(value) = self.value.take() {
            put(&self.slot, Exchange::Yielded(value));
            return Poll::Pending;
        }
        match take(&self.slot) {
            Exchange::Returned(value, exit) => Poll::Ready((value, exit)),
            other => {
                put(&self.slot, other);
                Poll::Pending
            }
        }
    }
}

/// What lies beside the function: written when the context is entered, needed when it is left.
pub(super) struct Meta<'a, R: Return> {
    pub(super) name: &'static str,
    pub(super) seq: u64,
    pub(super) group: u64,
    pub(super) finish_setup: bool,
    handle: Option<Handle>,
    span: tracing::Span,
    pub(super) limits: Option<Box<Limits<R>>>,
    failure: fn(&R::Body) -> Option<String>,
    /// What becomes of a teardown that nobody awaits. Only the constructor knows what it may demand.
    detach: fn(Frame<'a, R>, bool),
}

/// The options that bound a context in time.
pub(super) struct Limits<R: Return> {
    pub(super) setup: Option<Duration>,
    pub(super) teardown: Option<Duration>,
    pub(super) elapsed: fn(Elapsed) -> R::Body,
}

/// Counts down one of the [`Limits`] from the first poll that leaves something to wait for.
#[derive(Default)]
pub(super) struct Bound(Option<Pin<Box<Sleep>>>);

impl Bound {
    fn late<R: Return>(
        &mut self,
        phase: &'static str,
        name: &'static str,
        limit: Duration,
        limits: &Limits<R>,
        cx: &mut task::Context<'_>,
    ) -> Option<Late<R>> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        sleep.as_mut().poll(cx).is_ready().then(|| Late {
            elapsed: Elapsed { name, phase, limit },
            error: limits.elapsed,
        })
    }
}

pin_project! {
    struct Function<'a, R: Return, F: ?Sized> {
        meta: Meta<'a, R>,
        #[pin]
        future: F,
    }
}

type Running<'a, R> =
    Pin<Box<Function<'a, R, dyn Future<Output = <R as Return>::Body> + Send + 'a>>>;

/// A context's function, at whatever point it is. One allocation for it and one for the slot.
pub(super) struct Frame<'a, R: Return> {
    /// `None` from its end on. Never locked, only ever `get_mut`: the mutex makes it `Sync`.
    running: Mutex<Option<Running<'a, R>>>,
    slot: Arc<Slot<R::Value>>,
}

/// A function that has come to its end.
pub(super) struct Ended<R: Return> {
    pub(super) name: &'static str,
    pub(super) body: R::Body,
    failure: fn(&R::Body) -> Option<String>,
}

/// A limit that has passed, and the user's error for it.
pub(super) struct Late<R: Return> {
    elapsed: Elapsed,
    error: fn(Elapsed) -> R::Body,
}

impl<R: Return> Late<R> {
    pub(super) fn into_body(self) -> R::Body {
        (self.error)(self.elapsed)
    }
}

/// How a teardown has come to its end.
pub(super) enum Left<R: Return> {
    Ended(Ended<R>),
    Late(Late<R>),
}

impl<R: Return> Left<R> {
    pub(super) fn into_body(self) -> R::Body {
        match self {
            Left::Ended(ended) => ended.body,
            Left::Late(late) => late.into_body(),
        }
    }

    /// The error, when there is nobody to give it to.
    fn outcome(&self) -> Result<(), TeardownError> {
        match self {
            Left::Ended(ended) => match (ended.failure)(&ended.body) {
                None => Ok(()),
                Some(error) => Err(TeardownError::Failed {
                    name: ended.name,
                    error,
                }),
            },
            Left::Late(late) => Err(TeardownError::TimedOut {
                name: late.elapsed.name,
                limit: late.elapsed.limit,
            }),
        }
    }

    pub(super) fn report(&self) {
        if let Err(error) = self.outcome() {
            teardown::report(&error);
        }
    }
}

/// How far a poll has brought a function that was not yet at its yield.
pub(super) enum Setup<R: Return> {
    Yielded(R::Value),
    Ended(Ended<R>),
}

impl<'a, R: Return> Frame<'a, R>
where
    R::Body: Outcome,
{
    pub(super) fn new<F>(
        name: &'static str,
        function: impl FnOnce(Yielder<R::Value>) -> F,
        detach: fn(Frame<'a, R>, bool),
    ) -> Self
    where
        F: Future<Output = R::Body> + Send + 'a,
    {
        let slot = Arc::new(Mutex::new(Exchange::Empty));
        let future = function(Yielder {
            slot: Arc::clone(&slot),
        });
        let meta = Meta {
            name,
            seq: 0,
            group: 0,
            finish_setup: false,
            handle: None,
            span: tracing::Span::none(),
            limits: None,
            failure: R::Body::failure,
            detach,
        };
        Frame {
            running: Mutex::new(Some(Box::pin(Function { meta, future }))),
            slot,
        }
    }
}

impl<'a, R: Return> Frame<'a, R> {
    fn running(&mut self) -> &mut Option<Running<'a, R>> {
        self.running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` once the function has ended.
    pub(super) fn meta(&mut self) -> Option<&mut Meta<'a, R>> {
        let running = self.running().as_mut()?;
        Some(running.as_mut().project().meta)
    }

    /// Notes where the context is entered. Comes before the function's first step.
    pub(super) fn arm(&mut self) {
        let Some(meta) = self.meta() else { return };
        meta.handle = Handle::try_current().ok();
        if tracing::dispatcher::has_been_set() {
            meta.span = tracing::Span::current();
        }
    }

    /// Notes that the context is entered now.
    fn number(&mut self) {
        static ENTERED: AtomicU64 = AtomicU64::new(1);
        if let Some(meta) = self.meta() {
            meta.seq = ENTERED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls the function on; ready at its end.
    ///
    /// A function that panics is gone: the panic leaves this method and the function is dropped.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Ended<R>> {
        let running = self.running();
        let Some(mut function) = running.take() else {
            panic!("a context's future was polled after its end");
        };
        let projected = function.as_mut().project();
        match projected.future.poll(cx) {
            Poll::Pending => {
                *running = Some(function);
                Poll::Pending
            }
            Poll::Ready(body) => Poll::Ready(Ended {
                name: projected.meta.name,
                body,
                failure: projected.meta.failure,
            }),
        }
    }

    /// Polls a function that is not yet at its yield.
    pub(super) fn poll_setup(&mut self, cx: &mut task::Context<'_>) -> Poll<Setup<R>> {
        if let Poll::Ready(ended) = self.poll(cx) {
            return Poll::Ready(Setup::Ended(ended));
        }
        match take(&self.slot) {
            Exchange::Yielded(value) => {
                self.number();
                Poll::Ready(Setup::Yielded(value))
            }
            // A value that was returned is taken by the function before it is pending again.
            Exchange::Empty | Exchange::Returned(..) => Poll::Pending,
        }
    }

    /// Polls a function that is past its yield, within its `teardown_timeout`. On a timeout the function
    /// is dropped where it stands.
    pub(super) fn poll_teardown(
        &mut self,
        bound: &mut Bound,
        cx: &mut task::Context<'_>,
    ) -> Poll<Left<R>> {
        if let Poll::Ready(ended) = self.poll(cx) {
            return Poll::Ready(Left::Ended(ended));
        }
        let late = self.meta().and_then(|meta| {
            let limits = meta.limits.as_deref()?;
            bound.late("teardown", meta.name, limits.teardown?, limits, cx)
        });
        match late {
            Some(late) => {
                *self.running() = None;
                Poll::Ready(Left::Late(late))
            }
            None => Poll::Pending,
        }
    }

    /// Whether the `setup_timeout` has passed.
    pub(super) fn late_setup(
        &mut self,
        bound: &mut Bound,
        cx: &mut task::Context<'_>,
    ) -> Option<Late<R>> {
        let meta = self.meta()?;
        let limits = meta.limits.as_deref()?;
        bound.late("setup", meta.name, limits.setup?, limits, cx)
    }

    /// Gives the value back: from here on the function is tearing down.
    pub(super) fn leave(&self, value: R::Value, exit: Exit) {
        put(&self.slot, Exchange::Returned(value, exit));
    }

    /// Leaves the rest of the function to itself; `entered` tells whether it is past its yield.
    ///
    /// Neither blocks nor panics.
    pub(super) fn detach(mut self, entered: bool) {
        if let Some(meta) = self.meta() {
            let detach = meta.detach;
            detach(self, entered);
        }
    }

    fn place(&mut self) -> Option<Place> {
        let meta = self.meta()?;
        Some(Place {
            name: meta.name,
            handle: meta.handle.take(),
            span: std::mem::replace(&mut meta.span, tracing::Span::none()),
            seq: meta.seq,
            group: meta.group,
        })
    }
}

/// The end of a function that nobody awaits.
struct Rest<'a, R: Return> {
    frame: Frame<'a, R>,
    entered: bool,
    bound: Bound,
}

impl<R: Return> Unpin for Rest<'_, R> {}

impl<R: Return> Future for Rest<'_, R> {
    type Output = Result<(), TeardownError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.entered {
            match this.frame.poll_setup(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Setup::Ended(ended)) => {
                    return Poll::Ready(Left::Ended(ended).outcome());
                }
                Poll::Ready(Setup::Yielded(value)) => {
                    this.entered = true;
                    this.frame.leave(value, Exit::Cancelled);
                }
            }
        }
        this.frame
            .poll_teardown(&mut this.bound, cx)
            .map(|left| left.outcome())
    }
}

impl<'a, R: Return> Rest<'a, R> {
    fn of(mut frame: Frame<'a, R>, entered: bool) -> Option<(Self, Place)> {
        if !entered {
            frame.number();
        }
        let place = frame.place()?;
        let rest = Rest {
            frame,
            entered,
            bound: Bound::default(),
        };
        Some((rest, place))
    }
}

/// Of contexts that own all they use: the rest goes on as a task.
pub(super) fn detach_owned<R>(frame: Frame<'static, R>, entered: bool)
where
    R: Return + 'static,
    R::Value: Send,
{
    if let Some((rest, place)) = Rest::of(frame, entered) {
        teardown::detach(place, rest);
    }
}

/// Of contexts that borrow: the rest may not outlive this call.
pub(super) fn detach_borrowed<R: Return>(frame: Frame<'_, R>, entered: bool) {
    const REASON: &str =
        "what a borrowed guard borrows ends when it is dropped, and one poll was not enough";
    if let Some((rest, place)) = Rest::of(frame, entered) {
        place
            .span
            .in_scope(|| teardown::poll_once(place.name, rest, REASON));
    }
}
