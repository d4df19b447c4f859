//! The suspended function behind a context, and how its value leaves it and comes back.
//!
//! The value travels in a box of its own: the function puts it there when it yields, the guard keeps it there,
//! and the function takes it out when it is resumed. Between the function and whoever polls it the box passes
//! through a thread-local cell, which is good for the length of one poll. That takes neither a lock nor a
//! reference count, but a type that is `'static`; what borrows passes through a shared slot instead.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::{Elapsed, Exit, Outcome, Return};
use crate::teardown::{self, Origin, Place, TeardownError, Turn};

/// A value on its way: out of the function as long as there is no exit, back into it when there is one. In
/// between it is all that a guard consists of.
pub(super) struct Parcel<'a, R: Return> {
    pub(super) value: R::Value,
    exit: Option<Exit>,
    /// While a guard holds the value.
    frame: Option<Frame<'a, R>>,
}

impl<'a, R: Return> Parcel<'a, R> {
    fn outbound(value: R::Value) -> Box<Self> {
        Box::new(Parcel {
            value,
            exit: None,
            frame: None,
        })
    }

    fn returned(self) -> Option<(R::Value, Exit)> {
        Some((self.value, self.exit?))
    }
}

type Erased = Box<dyn Any>;

thread_local! {
    /// Filled and emptied within one poll. Never dropped, so that it is there even while a thread ends.
    static PASSING: Cell<ManuallyDrop<Option<Erased>>> = const { Cell::new(ManuallyDrop::new(None)) };
}

#[inline(always)]
fn pass(parcel: Option<Erased>) -> Option<Erased> {
    ManuallyDrop::into_inner(PASSING.replace(ManuallyDrop::new(parcel)))
}

/// Brings back what an outer poll had in the cell, also when a poll panics.
struct Passing(Option<Erased>);

impl Passing {
    #[inline(always)]
    fn start(parcel: Option<Erased>) -> Passing {
        Passing(pass(parcel))
    }

    /// What is in the cell now.
    #[inline(always)]
    fn end(mut self) -> Option<Erased> {
        let parcel = pass(self.0.take());
        std::mem::forget(self);
        parcel
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        drop(pass(self.0.take()));
    }
}

type Slot<'a, R> = Mutex<Back<'a, R>>;

fn lock<'s, 'a, R: Return>(slot: &'s Slot<'a, R>) -> MutexGuard<'s, Back<'a, R>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a function reaches whoever polls it.
pub trait Channel<R: Return> {
    #[doc(hidden)]
    fn send(&mut self, value: R::Value);
    #[doc(hidden)]
    fn receive(&mut self) -> Option<(R::Value, Exit)>;
}

/// Through the thread that polls. What that demands of the value is demanded by the constructor alone, so that
/// a value that won't do is one error and not three.
pub struct ByThread<R: Return> {
    send: fn(R::Value),
    receive: fn() -> Option<(R::Value, Exit)>,
}

impl<R: Return + 'static> ByThread<R> {
    fn new() -> Self {
        ByThread {
            send: |value| {
                pass(Some(Parcel::<R>::outbound(value)));
            },
            receive: || {
                let parcel = pass(None)?.downcast::<Parcel<'static, R>>().ok()?;
                parcel.returned()
            },
        }
    }
}

impl<R: Return> Channel<R> for ByThread<R> {
    #[inline(always)]
    fn send(&mut self, value: R::Value) {
        (self.send)(value);
    }

    #[inline(always)]
    fn receive(&mut self) -> Option<(R::Value, Exit)> {
        (self.receive)()
    }
}

/// Through a slot that both ends share.
pub struct BySlot<'a, R: Return>(Arc<Slot<'a, R>>);

impl<R: Return> Channel<R> for BySlot<'_, R> {
    fn send(&mut self, value: R::Value) {
        *lock(&self.0) = Some(Parcel::outbound(value));
    }

    fn receive(&mut self) -> Option<(R::Value, Exit)> {
        let parcel = lock(&self.0).take()?;
        parcel.returned()
    }
}

/// What `yield_` is in a context's function; good for one yield.
pub struct Yielder<R, C> {
    channel: C,
    declared: PhantomData<fn(R)>,
}

impl<R: Return, C: Channel<R>> Yielder<R, C> {
    fn new(channel: C) -> Self {
        Yielder {
            channel,
            declared: PhantomData,
        }
    }

    /// `yield_(value)`: gives `value` to whoever enters the context; ready when the context is left.
    #[inline(always)]
    pub fn give(self, value: R::Value) -> Yield<R, C> {
        Yield {
            channel: self.channel,
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

impl<R: Return<Value: Nothing>, C: Channel<R>> Yielder<R, C> {
    /// `yield_()`
    #[inline(always)]
    pub fn give_nothing(self) -> YieldNothing<R, C> {
        YieldNothing(self.give(R::Value::nothing()))
    }
}

/// The future of `yield_()`.
pub struct YieldNothing<R: Return, C>(Yield<R, C>);

impl<R: Return, C: Channel<R>> Future for YieldNothing<R, C> {
    type Output = Exit;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Exit> {
        Pin::new(&mut self.0).poll(cx).map(|(_, exit)| exit)
    }
}

/// The future of `yield_(value)`.
pub struct Yield<R: Return, C> {
    channel: C,
    value: Option<R::Value>,
}

// The value is never pinned.
impl<R: Return, C> Unpin for Yield<R, C> {}

impl<R: Return, C: Channel<R>> Future for Yield<R, C> {
    type Output = (R::Value, Exit);

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<(R::Value, Exit)> {
        // Nobody needs waking: the guard polls on when it has put the value back.
        if let Some(value) = self.value.take() {
            self.channel.send(value);
            return Poll::Pending;
        }
        match self.channel.receive() {
            Some(returned) => Poll::Ready(returned),
            None => Poll::Pending,
        }
    }
}

/// What lies beside the function: all that is known about the context. The futures and the guard carry no
/// more than a pointer to it, so that moving them is cheap.
pub(super) struct Meta<'a, R: Return> {
    pub(super) name: &'static str,
    pub(super) group: u64,
    pub(super) seq: u64,
    pub(super) finish_setup: bool,
    /// From the first poll on.
    armed: bool,
    handle: Option<Handle>,
    span: tracing::Span,
    /// Set while the function is polled, and for ever if it panics there.
    in_poll: bool,
    limits: Option<Box<Limits<R>>>,
    /// Counts down the limit that applies, from the first poll that leaves something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
    order: Order,
    /// The value, once it is given back and until the function has taken it.
    back: Back<'a, R>,
    /// Of contexts that borrow.
    slot: Option<Arc<Slot<'a, R>>>,
    calls: Calls<'a, R>,
}

enum Order {
    /// Not yet asked for.
    Unknown,
    /// Waits for inner contexts that were dropped before.
    Waiting(Box<Turn<Origin>>),
    Come,
}

/// What depends on whether the context borrows. Only the constructors know what they may demand.
struct Calls<'a, R: Return> {
    exchange: Exchange<'a, R>,
    /// What becomes of a teardown that nobody awaits.
    detach: fn(Frame<'a, R>, bool),
    failure: fn(&R::Body) -> Option<String>,
}

type Dyn<'a, R> = dyn Future<Output = <R as Return>::Body> + Send + 'a;
type Back<'a, R> = Option<Box<Parcel<'a, R>>>;
type Exchanged<'a, R> = (Poll<<R as Return>::Body>, Back<'a, R>);
type Exchange<'a, R> = fn(
    Pin<&mut Dyn<'a, R>>,
    Option<&Slot<'a, R>>,
    Back<'a, R>,
    &mut task::Context<'_>,
) -> Exchanged<'a, R>;

/// The options that bound a context in time.
pub(super) struct Limits<R: Return> {
    pub(super) setup: Option<Duration>,
    pub(super) teardown: Option<Duration>,
    elapsed: fn(Elapsed) -> R::Body,
}

pin_project! {
    #[project = FunctionProjection]
    struct Function<'a, R: Return, F: ?Sized> {
        meta: Meta<'a, R>,
        #[pin]
        future: F,
    }
}

type Running<'a, R> = Pin<Box<Function<'a, R, Dyn<'a, R>>>>;

/// A context's function, at whatever point it is: one allocation, beside that of its value.
pub(super) struct Frame<'a, R: Return> {
    /// `None` from its end on. Only ever reached by `&mut`, hence `Sync`.
    running: SyncWrapper<Option<Running<'a, R>>>,
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
    pub(super) fn name(&self) -> &'static str {
        self.elapsed.name
    }

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
    pub(super) fn outcome(&self) -> Result<(), TeardownError> {
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
pub(super) enum Setup<'a, R: Return> {
    Yielded(Box<Parcel<'a, R>>),
    Ended(Ended<R>),
}

impl<'a, R: Return> Frame<'a, R> {
    fn new<F>(
        name: &'static str,
        slot: Option<Arc<Slot<'a, R>>>,
        calls: Calls<'a, R>,
        future: F,
    ) -> Self
    where
        F: Future<Output = R::Body> + Send + 'a,
    {
        let meta = Meta {
            name,
            group: 0,
            seq: 0,
            finish_setup: false,
            armed: false,
            handle: None,
            span: tracing::Span::none(),
            in_poll: false,
            limits: None,
            sleep: None,
            order: Order::Unknown,
            back: None,
            slot,
            calls,
        };
        Frame {
            running: SyncWrapper::new(Some(Box::pin(Function { meta, future }))),
        }
    }
}

impl<R> Frame<'static, R>
where
    R: Return<Body: Outcome> + 'static,
    R::Value: Send,
{
    /// Of a context that owns all it uses.
    pub(super) fn owned<F>(
        name: &'static str,
        function: impl FnOnce(Yielder<R, ByThread<R>>) -> F,
    ) -> Self
    where
        F: Future<Output = R::Body> + Send + 'static,
    {
        let calls = Calls {
            exchange: exchange_by_thread::<R>,
            detach: detach_owned,
            failure: R::Body::failure,
        };
        let yielder = Yielder::new(ByThread::new());
        Frame::new(name, None, calls, function(yielder))
    }
}

impl<'a, R> Frame<'a, R>
where
    R: Return<Body: Outcome>,
    R::Value: Send,
{
    /// Of a context that may borrow.
    pub(super) fn borrowed<F>(
        name: &'static str,
        function: impl FnOnce(Yielder<R, BySlot<'a, R>>) -> F,
    ) -> Self
    where
        F: Future<Output = R::Body> + Send + 'a,
    {
        let calls = Calls {
            exchange: exchange_by_slot::<R>,
            detach: detach_borrowed,
            failure: R::Body::failure,
        };
        let slot = Arc::new(Mutex::new(None));
        let yielder = Yielder::new(BySlot(Arc::clone(&slot)));
        Frame::new(name, Some(slot), calls, function(yielder))
    }
}

/// Polls `future` with `back` in its reach, and gives what is there afterwards.
fn exchange_by_thread<R>(
    future: Pin<&mut Dyn<'static, R>>,
    _: Option<&Slot<'static, R>>,
    back: Back<'static, R>,
    cx: &mut task::Context<'_>,
) -> Exchanged<'static, R>
where
    R: Return + 'static,
{
    let passing = Passing::start(back.map(|parcel| parcel as Erased));
    let polled = future.poll(cx);
    let passed = passing.end();
    let passed = passed.and_then(|parcel| parcel.downcast::<Parcel<'static, R>>().ok());
    (polled, passed)
}

fn exchange_by_slot<'a, R: Return>(
    future: Pin<&mut Dyn<'a, R>>,
    slot: Option<&Slot<'a, R>>,
    back: Back<'a, R>,
    cx: &mut task::Context<'_>,
) -> Exchanged<'a, R> {
    let Some(slot) = slot else {
        return (future.poll(cx), back);
    };
    *lock(slot) = back;
    let polled = future.poll(cx);
    (polled, lock(slot).take())
}

impl<'a, R: Return> Meta<'a, R> {
    /// Notes where the context is entered. Comes before the function's first step.
    #[inline(always)]
    fn arm(&mut self) {
        if self.armed {
            return;
        }
        self.armed = true;
        self.handle = Handle::try_current().ok();
        if tracing::dispatcher::has_been_set() {
            self.span = tracing::Span::current();
        }
    }

    /// Notes that the context is entered now.
    #[inline(always)]
    fn number(&mut self) {
        static ENTERED: AtomicU64 = AtomicU64::new(1);
        self.seq = ENTERED.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    pub(super) fn limits(&mut self, elapsed: fn(Elapsed) -> R::Body) -> &mut Limits<R> {
        self.limits.get_or_insert_with(|| {
            Box::new(Limits {
                setup: None,
                teardown: None,
                elapsed,
            })
        })
    }

    /// Whether the limit of the `phase` has passed.
    fn poll_late(
        &mut self,
        phase: &'static str,
        limit: impl FnOnce(&Limits<R>) -> Option<Duration>,
        cx: &mut task::Context<'_>,
    ) -> Option<Late<R>> {
        let limits = self.limits.as_deref()?;
        let limit = limit(limits)?;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        sleep.as_mut().poll(cx).is_ready().then_some(Late {
            elapsed: Elapsed {
                name: self.name,
                phase,
                limit,
            },
            error: limits.elapsed,
        })
    }
}

impl<'a, R: Return> Frame<'a, R> {
    /// `None` once the function has ended or panicked.
    #[inline(always)]
    pub(super) fn meta(&mut self) -> Option<&mut Meta<'a, R>> {
        let running = self.running.get_mut().as_mut()?;
        let meta = running.as_mut().project().meta;
        (!meta.in_poll).then_some(meta)
    }

    /// Polls the function on, with the value if it is to get it back.
    #[inline(always)]
    fn poll(&mut self, passes: bool, cx: &mut task::Context<'_>) -> Poll<Setup<'a, R>> {
        let running = self.running.get_mut();
        let Some(function) = running else {
            panic!("a context's future was polled after its end");
        };
        let FunctionProjection { meta, future } = function.as_mut().project();
        meta.in_poll = true;
        let (polled, passed) = if passes {
            (meta.calls.exchange)(future, meta.slot.as_deref(), meta.back.take(), cx)
        } else {
            (future.poll(cx), None)
        };
        meta.in_poll = false;
        if let Poll::Ready(body) = polled {
            let ended = Ended {
                name: meta.name,
                body,
                failure: meta.calls.failure,
            };
            *running = None;
            return Poll::Ready(Setup::Ended(ended));
        }
        match passed {
            Some(parcel) if parcel.exit.is_none() => {
                meta.number();
                meta.sleep = None;
                Poll::Ready(Setup::Yielded(parcel))
            }
            not_taken => {
                meta.back = not_taken;
                Poll::Pending
            }
        }
    }

    /// Polls a function that is not yet at its yield, within its `setup_timeout`.
    #[inline(always)]
    pub(super) fn poll_setup(
        &mut self,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Setup<'a, R>, Late<R>>> {
        if let Some(meta) = self.meta() {
            meta.arm();
        }
        if let Poll::Ready(setup) = self.poll(true, cx) {
            return Poll::Ready(Ok(setup));
        }
        let late = |meta: &mut Meta<'a, R>| meta.poll_late("setup", |limits| limits.setup, cx);
        match self.meta().and_then(late) {
            Some(late) => Poll::Ready(Err(late)),
            None => Poll::Pending,
        }
    }

    /// Polls a function that is past its yield, within its `teardown_timeout`. On a timeout the function
    /// is dropped where it stands.
    #[inline(always)]
    pub(super) fn poll_teardown(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        let passes = self.meta().is_some_and(|meta| meta.back.is_some());
        if let Poll::Ready(Setup::Ended(ended)) = self.poll(passes, cx) {
            return Poll::Ready(Left::Ended(ended));
        }
        let late =
            |meta: &mut Meta<'a, R>| meta.poll_late("teardown", |limits| limits.teardown, cx);
        match self.meta().and_then(late) {
            Some(late) => {
                *self.running.get_mut() = None;
                Poll::Ready(Left::Late(late))
            }
            None => Poll::Pending,
        }
    }

    /// Waits for the inner contexts that the leaving task has dropped before.
    #[inline(always)]
    pub(super) fn poll_order(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(meta) = self.meta() else {
            return Poll::Ready(());
        };
        if let Order::Unknown = meta.order {
            meta.order = if teardown::any_pending() {
                Order::Waiting(Box::new(teardown::turn(meta.seq, meta.group)))
            } else {
                Order::Come
            };
        }
        if let Order::Waiting(turn) = &mut meta.order {
            ready!(teardown::poll_turn(turn, cx));
            meta.order = Order::Come;
        }
        Poll::Ready(())
    }

    #[inline(always)]
    fn give_back(&mut self, mut parcel: Box<Parcel<'a, R>>, exit: Exit) {
        parcel.exit = Some(exit);
        if let Some(meta) = self.meta() {
            meta.back = Some(parcel);
        }
    }

    /// For what has no runtime of its own.
    pub(super) fn adopt(&mut self, runtime: impl FnOnce() -> Option<Handle>) {
        if let Some(meta) = self.meta() {
            if meta.handle.is_none() {
                meta.handle = runtime();
            }
        }
    }

    /// Gives up a setup. It is finished detached if the options say so, and else dropped.
    pub(super) fn give_up(mut self) {
        if self
            .meta()
            .is_some_and(|meta| meta.finish_setup && meta.armed)
        {
            self.detach(false);
        }
    }

    /// Leaves the rest of the function to itself; `entered` tells whether it is past its yield.
    ///
    /// Neither blocks nor panics.
    pub(super) fn detach(mut self, entered: bool) {
        if let Some(meta) = self.meta() {
            let detach = meta.calls.detach;
            detach(self, entered);
        }
    }
}

impl<'a, R: Return> Parcel<'a, R> {
    /// The guard's beginning.
    #[inline(always)]
    pub(super) fn hold(&mut self, frame: Option<Frame<'a, R>>) {
        self.frame = frame;
    }

    pub(super) fn frame(&mut self) -> Option<&mut Frame<'a, R>> {
        self.frame.as_mut()
    }

    /// The guard's end: gives the value back. From here on the function is tearing down.
    #[inline(always)]
    pub(super) fn leave(mut self: Box<Self>, exit: Exit) -> Option<Frame<'a, R>> {
        let mut frame = self.frame.take()?;
        frame.give_back(self, exit);
        Some(frame)
    }
}

/// The end of a function that nobody awaits.
struct Rest<'a, R: Return> {
    frame: Frame<'a, R>,
    entered: bool,
}

impl<R: Return> Unpin for Rest<'_, R> {}

impl<R: Return> Future for Rest<'_, R> {
    type Output = Result<(), TeardownError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.entered {
            match ready!(this.frame.poll(true, cx)) {
                Setup::Ended(ended) => return Poll::Ready(Left::Ended(ended).outcome()),
                Setup::Yielded(parcel) => {
                    this.entered = true;
                    this.frame.give_back(parcel, Exit::Cancelled);
                }
            }
        }
        this.frame.poll_teardown(cx).map(|left| left.outcome())
    }
}

impl<'a, R: Return> Rest<'a, R> {
    fn of(mut frame: Frame<'a, R>, entered: bool) -> Option<(Self, Place)> {
        let meta = frame.meta()?;
        if !entered {
            meta.number();
            meta.sleep = None;
        }
        let place = Place {
            name: meta.name,
            handle: meta.handle.take(),
            span: std::mem::replace(&mut meta.span, tracing::Span::none()),
            seq: meta.seq,
            group: meta.group,
        };
        Some((Rest { frame, entered }, place))
    }
}

/// Of contexts that own all they use: the rest goes on as a task.
fn detach_owned<R>(frame: Frame<'static, R>, entered: bool)
where
    R: Return + 'static,
    R::Value: Send,
{
    if let Some((rest, place)) = Rest::of(frame, entered) {
        teardown::detach(place, rest);
    }
}

/// Of contexts that borrow: the rest may not outlive this call.
fn detach_borrowed<R: Return>(frame: Frame<'_, R>, entered: bool) {
    const REASON: &str =
        "what a borrowed guard borrows ends when it is dropped, and one poll was not enough";
    if let Some((rest, place)) = Rest::of(frame, entered) {
        place
            .span
            .in_scope(|| teardown::poll_once(place.name, rest, REASON));
    }
}
