//! The suspended function behind a context, and how its value leaves it and comes back.
//!
//! The value lives beside the function, in the same allocation: the function puts it there when it yields, the
//! guard refers to it there, and the function takes it from there when it is resumed. For the length of a poll
//! that place is in the function's reach through a thread-local reference. That takes no allocation, lock or
//! reference count, but a type that is `'static`; what borrows passes through a shared slot instead.

use std::any::Any;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use scoped_tls_hkt::scoped_thread_local;
use sync_wrapper::SyncFuture;
use tokio::runtime::Handle;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::futures::never_yielded;
use super::watch::Watch;
use super::{Elapsed, Exit, Outcome, Return};
use crate::teardown::{self, Origin, Place, TeardownError, Turn};

/// The place of a context's value while the function doesn't have it. With an exit, it is on its way back.
struct Passage<R: Return> {
    value: Option<R::Value>,
    exit: Option<Exit>,
}

impl<R: Return> Passage<R> {
    const EMPTY: Self = Passage {
        value: None,
        exit: None,
    };

    fn take_back(&mut self) -> Option<(R::Value, Exit)> {
        let exit = self.exit.take()?;
        Some((self.value.take()?, exit))
    }
}

scoped_thread_local!(
    /// The `Passage` of the context whose function is being polled on this thread.
    static mut REACH: dyn Any
);

type Slot<R> = Mutex<Passage<R>>;

fn lock<R: Return>(slot: &Slot<R>) -> MutexGuard<'_, Passage<R>> {
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
                REACH.with(|passage| {
                    if let Some(passage) = passage.downcast_mut::<Passage<R>>() {
                        passage.value = Some(value);
                    }
                });
            },
            receive: || REACH.with(|passage| passage.downcast_mut::<Passage<R>>()?.take_back()),
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
pub struct BySlot<R: Return>(Arc<Slot<R>>);

impl<R: Return> Channel<R> for BySlot<R> {
    fn send(&mut self, value: R::Value) {
        lock(&self.0).value = Some(value);
    }

    fn receive(&mut self) -> Option<(R::Value, Exit)> {
        lock(&self.0).take_back()
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

impl<R: Return, C: Channel<R>> Yielder<R, C> {
    /// `yield_()`
    #[inline(always)]
    pub fn give_nothing(self) -> YieldNothing<R, C>
    where
        R::Value: Nothing,
    {
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

/// What is known about the context.
pub(super) struct Meta<'a, R: Return> {
    pub(super) name: &'static str,
    pub(super) group: u64,
    pub(super) seq: u64,
    pub(super) finish_setup: bool,
    /// From the first poll on.
    armed: bool,
    handle: Option<Handle>,
    span: tracing::Span,
    /// Set while the function is polled, and for ever if it ends or panics there.
    over: bool,
    limits: Option<Box<Limits<R>>>,
    order: Order,
    pub(super) watch: Option<Arc<dyn Watch>>,
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
    /// What becomes of a teardown that nobody awaits.
    detach: fn(Frame<'a, R>, bool),
    failure: fn(&R::Body) -> Option<String>,
}

/// The function itself. `Sync`, though a future isn't, because a guard's value, which lies beside it, is
/// reached by `&`.
trait Body<R: Return>: Send + Sync {
    /// Polls on, with `passage` in reach.
    fn poll(
        self: Pin<&mut Self>,
        passage: &mut Passage<R>,
        cx: &mut task::Context<'_>,
    ) -> Poll<R::Body>;
}

pin_project! {
    struct Owned<F> {
        #[pin]
        future: SyncFuture<F>,
    }
}

impl<R, F> Body<R> for Owned<F>
where
    R: Return + 'static,
    F: Future<Output = R::Body> + Send,
{
    fn poll(
        self: Pin<&mut Self>,
        passage: &mut Passage<R>,
        cx: &mut task::Context<'_>,
    ) -> Poll<R::Body> {
        REACH.set(passage, || self.project().future.poll(cx))
    }
}

pin_project! {
    struct Borrowing<R: Return, F> {
        slot: Arc<Slot<R>>,
        #[pin]
        future: SyncFuture<F>,
    }
}

impl<R, F> Body<R> for Borrowing<R, F>
where
    R: Return<Value: Send>,
    F: Future<Output = R::Body> + Send,
{
    fn poll(
        self: Pin<&mut Self>,
        passage: &mut Passage<R>,
        cx: &mut task::Context<'_>,
    ) -> Poll<R::Body> {
        let this = self.project();
        if passage.value.is_some() {
            *lock(this.slot) = std::mem::replace(passage, Passage::EMPTY);
        }
        let polled = this.future.poll(cx);
        let mut slot = lock(this.slot);
        if slot.value.is_some() {
            *passage = std::mem::replace(&mut *slot, Passage::EMPTY);
        }
        drop(slot);
        polled
    }
}

/// The options that bound a context in time.
pub(super) struct Limits<R: Return> {
    pub(super) setup: Option<Duration>,
    pub(super) teardown: Option<Duration>,
    /// Counts down the limit that applies, from the first poll that leaves something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
    /// When a limit passes that began to count on another runtime.
    until: Option<Instant>,
    elapsed: fn(Elapsed) -> R::Body,
}

pin_project! {
    #[project = FunctionProjection]
    struct Function<'a, R: Return, B: ?Sized> {
        meta: Meta<'a, R>,
        passage: Passage<R>,
        #[pin]
        body: B,
    }
}

type DynBody<'a, R> = dyn Body<R> + 'a;
type Running<'a, R> = Pin<Box<Function<'a, R, DynBody<'a, R>>>>;

/// A context's function, at whatever point it is, with its value: one allocation. The futures and the guard
/// are no more than a pointer to it, so that moving them is cheap. Whoever polls it to its end drops it then.
pub(super) struct Frame<'a, R: Return>(Running<'a, R>);

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
pub(super) enum Setup<R: Return> {
    Yielded,
    Ended(Ended<R>),
}

impl<'a, R: Return> Frame<'a, R> {
    fn new(name: &'static str, calls: Calls<'a, R>, body: impl Body<R> + 'a) -> Self {
        let meta = Meta {
            name,
            group: 0,
            seq: 0,
            finish_setup: false,
            armed: false,
            handle: None,
            span: tracing::Span::none(),
            over: false,
            limits: None,
            order: Order::Unknown,
            watch: None,
            calls,
        };
        Frame(Box::pin(Function {
            meta,
            passage: Passage::EMPTY,
            body,
        }))
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
            detach: detach_owned,
            failure: R::Body::failure,
        };
        let future = SyncFuture::new(function(Yielder::new(ByThread::new())));
        Frame::new(name, calls, Owned { future })
    }
}

impl<'a, R> Frame<'a, R>
where
    R: Return<Body: Outcome> + 'a,
    R::Value: Send,
{
    /// Of a context that may borrow.
    pub(super) fn borrowed<F>(
        name: &'static str,
        function: impl FnOnce(Yielder<R, BySlot<R>>) -> F,
    ) -> Self
    where
        F: Future<Output = R::Body> + Send + 'a,
    {
        let calls = Calls {
            detach: detach_borrowed,
            failure: R::Body::failure,
        };
        let slot = Arc::new(Mutex::new(Passage::EMPTY));
        let future = SyncFuture::new(function(Yielder::new(BySlot(Arc::clone(&slot)))));
        Frame::new(name, calls, Borrowing { slot, future })
    }
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

    /// A limit of the next phase begins anew.
    #[inline(always)]
    fn end_phase(&mut self) {
        if let Some(limits) = &mut self.limits {
            limits.sleep = None;
            limits.until = None;
        }
    }

    /// A limit goes on counting on whichever runtime polls next: a timer is of use on its own one alone.
    fn leave_runtime(&mut self) {
        if let Some(limits) = &mut self.limits {
            if let Some(sleep) = limits.sleep.take() {
                limits.until = Some(sleep.deadline());
            }
        }
    }

    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    pub(super) fn limits(&mut self, elapsed: fn(Elapsed) -> R::Body) -> &mut Limits<R> {
        self.limits.get_or_insert_with(|| {
            Box::new(Limits {
                setup: None,
                teardown: None,
                sleep: None,
                until: None,
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
        let limits = self.limits.as_deref_mut()?;
        let limit = limit(limits)?;
        let sleep = limits.sleep.get_or_insert_with(|| {
            Box::pin(limits.until.map_or_else(|| sleep(limit), sleep_until))
        });
        // A function that has used up its share of the poll leaves none for the limit.
        let passed = pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready();
        passed.then_some(Late {
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
    #[inline(always)]
    fn parts(&mut self) -> FunctionProjection<'_, 'a, R, DynBody<'a, R>> {
        self.0.as_mut().project()
    }

    #[inline(always)]
    pub(super) fn meta(&mut self) -> &mut Meta<'a, R> {
        self.parts().meta
    }

    /// The value, between the yield and the exit.
    #[inline(always)]
    pub(super) fn value(&self) -> Option<&R::Value> {
        self.0.passage.value.as_ref()
    }

    #[inline(always)]
    pub(super) fn value_mut(&mut self) -> Option<&mut R::Value> {
        self.parts().passage.value.as_mut()
    }

    #[inline(always)]
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Setup<R>> {
        let FunctionProjection {
            meta,
            passage,
            body,
        } = self.parts();
        meta.over = true;
        let polled = body.poll(passage, cx);
        if let Poll::Ready(body) = polled {
            return Poll::Ready(Setup::Ended(Ended {
                name: meta.name,
                body,
                failure: meta.calls.failure,
            }));
        }
        meta.over = false;
        if passage.value.is_some() && passage.exit.is_none() {
            meta.number();
            meta.end_phase();
            return Poll::Ready(Setup::Yielded);
        }
        Poll::Pending
    }

    /// Polls a function that is not yet at its yield, within its `setup_timeout`.
    #[inline(always)]
    pub(super) fn poll_setup(
        &mut self,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Setup<R>, Late<R>>> {
        self.meta().arm();
        if let Poll::Ready(setup) = self.poll(cx) {
            return Poll::Ready(Ok(setup));
        }
        match self.meta().poll_late("setup", |limits| limits.setup, cx) {
            Some(late) => Poll::Ready(Err(late)),
            None => Poll::Pending,
        }
    }

    /// Polls a function that is past its yield, within its `teardown_timeout`. On a timeout the function
    /// is dropped where it stands.
    #[inline(always)]
    pub(super) fn poll_teardown(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        if let Poll::Ready(Setup::Ended(ended)) = self.poll(cx) {
            return Poll::Ready(Left::Ended(ended));
        }
        match self
            .meta()
            .poll_late("teardown", |limits| limits.teardown, cx)
        {
            Some(late) => Poll::Ready(Left::Late(late)),
            None => Poll::Pending,
        }
    }

    /// Waits for the inner contexts that the leaving task has dropped before.
    #[inline(always)]
    pub(super) fn poll_order(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let meta = self.meta();
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

    /// The guard's end: gives the value back. From here on the function is tearing down.
    #[inline(always)]
    pub(super) fn give_back(&mut self, exit: Exit) {
        let FunctionProjection { meta, passage, .. } = self.parts();
        if let (Some(watch), false) = (&meta.watch, exit.is_success()) {
            Arc::clone(watch).left(&exit);
        }
        passage.exit = Some(exit);
    }

    /// For what has no runtime of its own.
    pub(super) fn adopt(&mut self, runtime: impl FnOnce() -> Option<Handle>) {
        let handle = &mut self.meta().handle;
        if handle.is_none() {
            *handle = runtime();
        }
    }

    /// Gives up a setup. It is finished detached if the options say so, and else dropped.
    pub(super) fn give_up(mut self) {
        let meta = self.meta();
        if meta.finish_setup && meta.armed {
            self.detach(false);
        }
    }

    /// Leaves the rest of the function to itself; `entered` tells whether it is past its yield.
    ///
    /// Neither blocks nor panics.
    pub(super) fn detach(mut self, entered: bool) {
        let meta = self.meta();
        if let Some(watch) = meta.watch.take() {
            watch.left(&Exit::Cancelled);
        }
        if !meta.over {
            let detach = meta.calls.detach;
            detach(self, entered);
        }
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
            match ready!(this.frame.poll(cx)) {
                Setup::Ended(ended) => {
                    let name = ended.name;
                    let outcome = Left::Ended(ended).outcome();
                    return Poll::Ready(outcome.map(|()| never_yielded(name)));
                }
                Setup::Yielded => {
                    this.entered = true;
                    this.frame.give_back(Exit::Cancelled);
                }
            }
        }
        this.frame.poll_teardown(cx).map(|left| left.outcome())
    }
}

impl<'a, R: Return> Rest<'a, R> {
    fn of(mut frame: Frame<'a, R>, entered: bool) -> (Self, Place) {
        let meta = frame.meta();
        if !entered {
            meta.number();
            meta.end_phase();
        }
        meta.leave_runtime();
        let place = Place {
            name: meta.name,
            handle: meta.handle.take(),
            span: std::mem::replace(&mut meta.span, tracing::Span::none()),
            seq: meta.seq,
            group: meta.group,
        };
        (Rest { frame, entered }, place)
    }
}

/// Of contexts that own all they use: the rest goes on as a task.
fn detach_owned<R>(frame: Frame<'static, R>, entered: bool)
where
    R: Return + 'static,
    R::Value: Send,
{
    let (rest, place) = Rest::of(frame, entered);
    teardown::detach(place, rest);
}

/// Of contexts that borrow: the rest may not outlive this call.
fn detach_borrowed<R: Return>(frame: Frame<'_, R>, entered: bool) {
    const REASON: &str =
        "what a borrowed guard borrows ends when it is dropped, and one poll was not enough";
    let (rest, place) = Rest::of(frame, entered);
    place
        .span
        .in_scope(|| teardown::poll_once(place.name, place.handle, rest, REASON));
}
