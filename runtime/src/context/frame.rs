//! The suspended function behind a context, with its value beside it.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use sync_wrapper::SyncFuture;
use tokio::runtime::Handle;
use tokio::task::{Id, try_id, unconstrained};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::fault::{Failed, Fault, Late, Left, outcome};
use super::passage::{BySlot, ByThread, Passage, Slot, Yielder, lock};
use super::returns::Kind;
use super::watch::Watch;
use super::{Elapsed, Exit, Outcome, Return};
#[cfg(feature = "monitor")]
use crate::census;
use crate::panic;
use crate::teardown::{self, Home, InnerPlace, Node, Origin, Place, TeardownError, Wait};

/// What is known about the context.
pub(super) struct Meta<'a, R: Return> {
    pub(super) name: &'static str,
    pub(super) finish_setup: bool,
    /// From the first poll on.
    armed: bool,
    /// Its own, inside the one that it is entered in.
    place: InnerPlace,
    /// That of the body of its `with`, once that has ended.
    body: Option<Arc<Node>>,
    /// It is known where it is entered.
    placed: bool,
    home: Home,
    span: tracing::Span,
    /// Set while the function is polled, and for ever if it ends or panics there.
    over: bool,
    limits: Option<Box<Limits<R>>>,
    before: Before,
    pub(super) watch: Option<Arc<dyn Watch>>,
    /// Counts it as open, if that is of interest to anybody.
    #[cfg(feature = "monitor")]
    open: Option<census::Open>,
    calls: Calls<'a, R>,
}

/// What a teardown that is awaited waits for before it begins.
enum Before {
    /// To be asked: what has been dropped in the place that it is left in, because something failed there.
    Settle,
    Settling(Box<Wait>),
    /// To be asked: what is inside the context.
    Inside,
    Waiting(Box<Wait>),
    Nothing,
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
    /// Polls on in `place`, in the task `task`, with `passage` in reach.
    fn poll(
        self: Pin<&mut Self>,
        place: &mut InnerPlace,
        task: Option<Id>,
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
        place: &mut InnerPlace,
        task: Option<Id>,
        passage: &mut Passage<R>,
        cx: &mut task::Context<'_>,
    ) -> Poll<R::Body> {
        let passage = Cell::from_mut(passage);
        place.run_in(task, Some(passage), || self.project().future.poll(cx))
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
        place: &mut InnerPlace,
        task: Option<Id>,
        passage: &mut Passage<R>,
        cx: &mut task::Context<'_>,
    ) -> Poll<R::Body> {
        let this = self.project();
        if passage.value.is_some() {
            *lock(this.slot) = std::mem::replace(passage, Passage::EMPTY);
        }
        let polled = place.run_in(task, None, || this.future.poll(cx));
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

/// How far a poll has brought a function that was not yet at its yield.
pub(super) enum Setup<R: Return> {
    Yielded,
    Ended(R::Body),
}

#[cold]
pub(super) fn never_yielded(name: &'static str) -> ! {
    panic!(
        "`{name}` ended without an error before it reached its `yield_`: there is nothing to enter"
    )
}

impl<'a, R: Return> Frame<'a, R> {
    fn new(name: &'static str, calls: Calls<'a, R>, body: impl Body<R> + 'a) -> Self {
        let meta = Meta {
            name,
            finish_setup: false,
            armed: false,
            place: InnerPlace::nowhere(),
            body: None,
            placed: false,
            home: Home::Nowhere,
            span: tracing::Span::none(),
            over: false,
            limits: None,
            before: Before::Inside,
            watch: None,
            #[cfg(feature = "monitor")]
            open: None,
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
    ///
    /// Each part is written where it belongs. One that is put together elsewhere and then moved is read before the
    /// processor has written it, which takes as long as the rest of this.
    #[inline(always)]
    fn arm(&mut self, task: Option<Id>) {
        if self.armed {
            return;
        }
        self.armed = true;
        if !self.placed {
            self.enter_in(Place::current_in(task));
        }
        self.home.enter_current(task);
        if tracing::dispatcher::has_been_set() {
            self.span = tracing::Span::current();
        }
    }

    /// It is entered in `place`, wherever it is polled.
    pub(super) fn enter_in(&mut self, place: Place) {
        self.place = InnerPlace::of(place, 0);
        self.placed = true;
    }

    #[cold]
    fn poll_before(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        loop {
            self.before = match &mut self.before {
                Before::Settle => match Wait::for_all_in(&Place::current()) {
                    Some(wait) => Before::Settling(Box::new(wait)),
                    None => Before::Inside,
                },
                Before::Settling(wait) => {
                    ready!(Pin::new(&mut **wait).poll(cx));
                    Before::Inside
                }
                Before::Inside => match self.place.wait_inside() {
                    Some(wait) => Before::Waiting(Box::new(wait)),
                    None => self.begin(),
                },
                Before::Waiting(wait) => {
                    ready!(Pin::new(&mut **wait).poll(cx));
                    self.begin()
                }
                Before::Nothing => return Poll::Ready(()),
            }
        }
    }

    /// Whether something inside it is pending, of what its function has entered or the body of its `with`.
    #[inline(always)]
    fn has_pending(&self) -> bool {
        self.place.has_pending() || self.body.as_ref().is_some_and(|body| body.has_pending())
    }

    /// A wait for what is inside it, if something of that is pending.
    fn wait_inside(&self) -> Option<Wait> {
        self.has_pending()
            .then(|| self.place.wait_inside())
            .flatten()
    }

    /// A subscriber may panic.
    #[cold]
    fn close_span(&mut self) {
        let span = std::mem::replace(&mut self.span, tracing::Span::none());
        panic::guarded(|| drop(span));
    }

    /// There is nothing left to wait for.
    #[inline(always)]
    fn begin(&self) -> Before {
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.say_what_is_overtaken();
        }
        Before::Nothing
    }

    #[cold]
    fn say_what_is_overtaken(&self) {
        let (place, at) = self.place.outer();
        if teardown::is_later_pending(place, at) {
            panic::guarded(|| {
                tracing::debug!(
                    context = self.name,
                    "torn down before a context that was entered after it, and was dropped",
                );
            });
        }
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
        self.home.handle()
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
        passed.then(|| Late::new(self.name, phase, limit, limits.elapsed))
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
    fn poll(&mut self, task: Option<Id>, cx: &mut task::Context<'_>) -> Poll<Setup<R>> {
        let FunctionProjection {
            meta,
            passage,
            body,
        } = self.parts();
        meta.over = true;
        let polled = body.poll(&mut meta.place, task, passage, cx);
        if let Poll::Ready(body) = polled {
            return Poll::Ready(Setup::Ended(body));
        }
        meta.over = false;
        if passage.value.is_some() && passage.exit.is_none() {
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
    ) -> Poll<Result<Setup<R>, Box<Late<R>>>> {
        let task = try_id();
        self.meta().arm(task);
        if let Poll::Ready(setup) = self.poll(task, cx) {
            match &setup {
                Setup::Yielded => {
                    let meta = self.meta();
                    teardown::entered(&mut meta.place);
                    #[cfg(feature = "monitor")]
                    if let Some(open) = census::entered(meta.name) {
                        meta.open = Some(open);
                    }
                }
                #[cfg(feature = "monitor")]
                Setup::Ended(_) => census::failed(self.meta().name),
                #[cfg(not(feature = "monitor"))]
                Setup::Ended(_) => {}
            }
            return Poll::Ready(Ok(setup));
        }
        match self.meta().poll_late("setup", |limits| limits.setup, cx) {
            Some(late) => {
                #[cfg(feature = "monitor")]
                census::failed(self.meta().name);
                Poll::Ready(Err(Box::new(late)))
            }
            None => Poll::Pending,
        }
    }

    /// Polls a function that is past its yield, within its `teardown_timeout`. On a timeout the function
    /// is to be dropped where it stands.
    #[inline(always)]
    pub(super) fn poll_teardown(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        if let Poll::Ready(Setup::Ended(body)) = self.poll(try_id(), cx) {
            return Poll::Ready(self.left(body));
        }
        match self
            .meta()
            .poll_late("teardown", |limits| limits.teardown, cx)
        {
            Some(late) => Poll::Ready(Err(Box::new(Fault::Late(late)))),
            None => Poll::Pending,
        }
    }

    /// Its function has come to its end.
    #[inline(always)]
    fn left(&mut self, body: R::Body) -> Left<R> {
        if R::Kind::is_error(&body) {
            Err(self.failed(body))
        } else {
            Ok(body)
        }
    }

    #[cold]
    fn failed(&mut self, body: R::Body) -> Box<Fault<R>> {
        let meta = self.meta();
        Box::new(Fault::Failed(Failed {
            name: meta.name,
            body,
            failure: meta.calls.failure,
        }))
    }

    /// A teardown that was awaited has ended.
    #[cfg(feature = "monitor")]
    #[inline(always)]
    pub(super) fn count_end(&mut self, left: &Left<R>) {
        if let Some(open) = self.meta().open.take() {
            if left.is_err() {
                open.failed();
            }
        }
    }

    /// Waits for what has to be torn down before a teardown that is awaited.
    #[inline(always)]
    pub(super) fn poll_before(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let meta = self.meta();
        match meta.before {
            Before::Nothing => Poll::Ready(()),
            Before::Inside if !meta.has_pending() => {
                meta.before = meta.begin();
                Poll::Ready(())
            }
            _ => meta.poll_before(cx),
        }
    }

    /// What has been dropped in the place where it is left is torn down first.
    pub(super) fn settle(&mut self) {
        self.meta().before = Before::Settle;
    }

    /// What is pending in `body`, the place of the body that has just ended, is torn down first.
    pub(super) fn contain(&mut self, body: Arc<Node>) {
        let meta = self.meta();
        meta.body = Some(body);
        if let Some(wait) = meta.wait_inside() {
            meta.before = Before::Waiting(Box::new(wait));
        }
    }

    /// A place inside the context, beside that of its function.
    #[inline(always)]
    pub(super) fn beside(&mut self) -> InnerPlace {
        let (place, at) = self.meta().place.outer();
        InnerPlace::of(place.clone(), at)
    }

    /// A wait for what its function has dropped, if something of that is pending.
    #[cold]
    fn wait_for_own(&mut self) -> Option<Wait> {
        let place = &mut self.meta().place;
        let pending = place.has_pending().then(|| place.place());
        pending.and_then(|place| Wait::for_all_in(&place))
    }

    /// The place of its function.
    pub(super) fn place(&mut self) -> Place {
        self.meta().place.place()
    }

    /// Drops the function, wherever it stands. What it has dropped itself, or what was taken out of the body and dropped
    /// meanwhile, may then be pending.
    #[inline(always)]
    pub(super) fn discard(mut self) -> Option<Wait> {
        let meta = self.meta();
        if !meta.span.is_none() {
            meta.close_span();
        }
        if meta.over && meta.place.is_empty() && meta.body.is_none() {
            return None;
        }
        self.discard_in_place()
    }

    #[cold]
    fn discard_in_place(mut self) -> Option<Wait> {
        let meta = self.meta();
        let mut place = std::mem::replace(&mut meta.place, InnerPlace::nowhere());
        let body = meta.body.take();
        place.run(|| drop(self));
        let has_pending = place.has_pending() || body.is_some_and(|body| body.has_pending());
        has_pending.then(|| place.wait_inside()).flatten()
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
        let home = &mut self.meta().home;
        if !home.is_known() {
            *home = runtime().map_or(Home::Nowhere, Home::from);
        }
    }

    /// Gives up a setup. It is finished detached if the options say so, and else dropped.
    pub(super) fn give_up(mut self) {
        let meta = self.meta();
        if meta.finish_setup && meta.armed {
            self.detach(false);
        } else {
            drop(self.discard());
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
        } else {
            drop(self.discard());
        }
    }
}

/// The end of a function that nobody awaits.
struct Rest<'a, R: Return> {
    /// Present until it is dropped.
    frame: Option<Frame<'a, R>>,
    entered: bool,
    /// For what a setup that is finished here has dropped: it goes before the teardown.
    inside: Option<Wait>,
}

impl<R: Return> Unpin for Rest<'_, R> {}

impl<R: Return> Future for Rest<'_, R> {
    type Output = Result<(), TeardownError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(frame) = &mut this.frame else {
            return Poll::Ready(Ok(()));
        };
        if !this.entered {
            match ready!(frame.poll(try_id(), cx)) {
                Setup::Ended(body) => {
                    let name = frame.meta().name;
                    let left = frame.left(body);
                    return Poll::Ready(outcome::<R>(left).map(|()| never_yielded(name)));
                }
                Setup::Yielded => {
                    this.entered = true;
                    frame.give_back(Exit::Cancelled);
                    this.inside = frame.wait_for_own();
                }
            }
        }
        if let Some(inside) = &mut this.inside {
            ready!(Pin::new(inside).poll(cx));
            this.inside = None;
        }
        frame.poll_teardown(cx).map(outcome::<R>)
    }
}

impl<R: Return> Drop for Rest<'_, R> {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            drop(frame.discard());
        }
    }
}

impl<'a, R: Return> Rest<'a, R> {
    fn of(mut frame: Frame<'a, R>, entered: bool) -> (Self, Origin) {
        let meta = frame.meta();
        if !entered {
            teardown::entered(&mut meta.place);
            meta.end_phase();
        }
        meta.leave_runtime();
        #[cfg(feature = "monitor")]
        {
            meta.open = None;
        }
        let (place, at) = meta.place.outer();
        let origin = Origin {
            name: meta.name,
            place: place.clone(),
            at,
            begun: !entered || matches!(meta.before, Before::Nothing),
            handle: meta.home.take(),
            span: std::mem::replace(&mut meta.span, tracing::Span::none()),
        };
        let rest = Rest {
            frame: Some(frame),
            entered,
            inside: None,
        };
        (rest, origin)
    }
}

/// Of contexts that own all they use: the rest goes on as a task.
fn detach_owned<R>(frame: Frame<'static, R>, entered: bool)
where
    R: Return + 'static,
    R::Value: Send,
{
    let (rest, origin) = Rest::of(frame, entered);
    teardown::detach(origin, rest);
}

/// Of contexts that borrow: the rest may not outlive this call.
fn detach_borrowed<R: Return>(frame: Frame<'_, R>, entered: bool) {
    const REASON: &str =
        "what a borrowed guard borrows ends when it is dropped, and one poll was not enough";
    let (rest, origin) = Rest::of(frame, entered);
    origin
        .span
        .in_scope(|| teardown::poll_once(origin.name, origin.handle, rest, REASON));
}
