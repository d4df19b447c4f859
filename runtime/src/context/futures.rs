//! What both kinds of contexts, owned and borrowed, have in common: entering, being entered, leaving.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};

use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tokio::runtime::Handle;

use super::fault::{Fault, Left, Payload, report};
use super::frame::{Frame, Meta, Setup, never_yielded};
use super::watch::Watch;
use super::{Exit, Return};
use crate::teardown::{InPlace, InnerPlace, Node, Place, Wait};

/// An error is given as the name of the function and what its body ended in.
pub(super) type Tried<'a, R> = Result<Entered<'a, R>, (&'static str, <R as Return>::Body)>;

/// On the way to the yield.
pub(super) struct Entering<'a, R: Return> {
    /// `None` once it is entered or has failed. Only ever reached by `&mut`, hence `Sync`.
    frame: SyncWrapper<Option<Frame<'a, R>>>,
}

impl<'a, R: Return> Entering<'a, R> {
    #[inline(always)]
    pub(super) fn new(frame: Frame<'a, R>) -> Self {
        Entering {
            frame: SyncWrapper::new(Some(frame)),
        }
    }

    /// For what is set before the context is entered.
    pub(super) fn set(mut self, set: impl FnOnce(&mut Meta<'a, R>)) -> Self {
        if let Some(frame) = self.frame.get_mut() {
            set(frame.meta());
        }
        self
    }

    #[cfg(feature = "scope")]
    pub(super) fn watch(&mut self) -> Option<Arc<dyn Watch>> {
        self.frame.get_mut().as_mut()?.meta().watch.clone()
    }

    #[inline(always)]
    pub(super) fn poll_guard<G>(
        &mut self,
        cx: &mut task::Context<'_>,
        guard: impl FnOnce(Entered<'a, R>) -> G,
    ) -> Poll<R::Entered<G>> {
        self.poll_entered(cx).map(|entered| match entered {
            Ok(entered) => R::entered(guard(entered)),
            Err((name, body)) => R::refused(body).unwrap_or_else(|| never_yielded(name)),
        })
    }

    #[inline(always)]
    pub(super) fn poll_entered(&mut self, cx: &mut task::Context<'_>) -> Poll<Tried<'a, R>> {
        let Some(frame) = self.frame.get_mut() else {
            panic!("`Enter` was polled after its end");
        };
        let refused = match ready!(frame.poll_setup(cx)) {
            Ok(Setup::Yielded) => {
                let frame = self.frame.get_mut().take();
                return Poll::Ready(Ok(Entered { frame }));
            }
            Ok(Setup::Ended(body)) => (frame.meta().name, body),
            Err(late) => (frame.meta().name, late.into_body()),
        };
        if let Some(frame) = self.frame.get_mut().take() {
            frame.give_up();
        }
        Poll::Ready(Err(refused))
    }
}

impl<R: Return> Drop for Entering<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(frame) = self.frame.get_mut().take() {
            frame.give_up();
        }
    }
}

/// At the yield.
pub(super) struct Entered<'a, R: Return> {
    /// `None` once it is left.
    frame: Option<Frame<'a, R>>,
}

const GONE: &str = "a guard holds its value until it is left";

impl<'a, R: Return> Entered<'a, R> {
    #[inline(always)]
    pub(super) fn value(&self) -> &R::Value {
        self.frame.as_ref().and_then(Frame::value).expect(GONE)
    }

    #[inline(always)]
    pub(super) fn value_mut(&mut self) -> &mut R::Value {
        self.frame.as_mut().and_then(Frame::value_mut).expect(GONE)
    }

    pub(super) fn watch(&mut self) -> Option<Arc<dyn Watch>> {
        self.frame.as_mut()?.meta().watch.clone()
    }

    pub(super) fn name(&mut self) -> &'static str {
        let frame = self.frame.as_mut();
        frame.map_or("", |frame| frame.meta().name)
    }

    /// A place inside the context, beside that of its function.
    pub(super) fn beside(&mut self) -> InnerPlace {
        self.frame.as_mut().map(Frame::beside).expect(GONE)
    }

    /// The place of its function.
    pub(super) fn place(&mut self) -> Place {
        self.frame.as_mut().map(Frame::place).expect(GONE)
    }

    /// The runtime it was entered on.
    pub(super) fn runtime(&mut self) -> Option<Handle> {
        self.frame.as_mut()?.meta().runtime().cloned()
    }

    /// For what was entered outside a runtime.
    pub(super) fn adopt(&mut self, runtime: impl FnOnce() -> Option<Handle>) {
        if let Some(frame) = &mut self.frame {
            frame.adopt(runtime);
        }
    }

    /// For a drop that needs the guard by value.
    pub(super) fn take(&mut self) -> Self {
        Entered {
            frame: self.frame.take(),
        }
    }

    /// Leaves out the teardown where there is nothing to tear down.
    pub(super) fn discard_if(&mut self, is_nothing: impl FnOnce(&R::Value) -> bool) {
        let value = self.frame.as_ref().and_then(Frame::value);
        if value.is_some_and(is_nothing) {
            self.frame = None;
        }
    }

    #[inline(always)]
    pub(super) fn leave(mut self, exit: Exit) -> Leaving<'a, R> {
        self.give_back(exit);
        self.left(None)
    }

    /// The first half of [`leave`](Self::leave): so each reason is written where it belongs, and none is moved.
    #[inline(always)]
    pub(super) fn give_back(&mut self, exit: Exit) {
        self.frame.as_mut().expect(GONE).give_back(exit);
    }

    /// The other half. What is pending in `body`, the place of the body that has just ended, is torn down first.
    #[inline(always)]
    pub(super) fn left(&mut self, body: Option<Arc<Node>>) -> Leaving<'a, R> {
        if let (Some(frame), Some(body)) = (&mut self.frame, body) {
            frame.contain(body);
        }
        let frame = self.frame.take().expect(GONE);
        Leaving {
            frame: SyncWrapper::new(Some(frame)),
            after: None,
        }
    }
}

impl<R: Return> Drop for Entered<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(mut frame) = self.frame.take() else {
            return;
        };
        let exit = if std::thread::panicking() {
            Exit::Panicked
        } else {
            Exit::Cancelled
        };
        frame.give_back(exit);
        frame.detach(true);
    }
}

/// On the way from the yield to the end.
pub(super) struct Leaving<'a, R: Return> {
    /// `None` at its end. Only ever reached by `&mut`, hence `Sync`.
    frame: SyncWrapper<Option<Frame<'a, R>>>,
    after: Option<Box<After<R>>>,
}

/// The function has ended, and maybe not yet all that it has dropped.
struct After<R: Return> {
    left: SyncWrapper<Left<R>>,
    wait: Wait,
}

impl<R: Return> Leaving<'_, R> {
    #[inline(always)]
    pub(super) fn poll_left(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        if self.after.is_some() {
            return self.poll_after(cx);
        }
        let Some(frame) = self.frame.get_mut() else {
            panic!("`Leave` was polled after its end");
        };
        ready!(frame.poll_before(cx));
        let left = match catch_unwind(AssertUnwindSafe(|| frame.poll_teardown(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(left)) => left,
            Err(payload) => Err(Fault::panicked(frame.meta().name, payload)),
        };
        #[cfg(feature = "monitor")]
        frame.count_end(&left);
        if left.is_err() {
            return self.poll_fault(left, cx);
        }
        match self.frame.get_mut().take().and_then(Frame::discard) {
            None => Poll::Ready(left),
            Some(wait) => self.wait_after(left, wait, cx),
        }
    }

    /// Drops a function that went wrong: one that is late wherever it stands, and it may panic at that.
    #[cold]
    fn poll_fault(&mut self, left: Left<R>, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        let Some(mut frame) = self.frame.get_mut().take() else {
            return Poll::Ready(left);
        };
        let name = frame.meta().name;
        match catch_unwind(AssertUnwindSafe(|| frame.discard())) {
            Ok(None) => Poll::Ready(left),
            Ok(Some(wait)) => self.wait_after(left, wait, cx),
            Err(payload) => {
                report::<R>(left);
                Poll::Ready(Err(Fault::panicked(name, payload)))
            }
        }
    }

    #[cold]
    fn wait_after(
        &mut self,
        left: Left<R>,
        wait: Wait,
        cx: &mut task::Context<'_>,
    ) -> Poll<Left<R>> {
        let left = SyncWrapper::new(left);
        self.after = Some(Box::new(After { left, wait }));
        self.poll_after(cx)
    }

    #[cold]
    fn poll_after(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        if let Some(after) = &mut self.after {
            ready!(Pin::new(&mut after.wait).poll(cx));
        }
        match self.after.take() {
            Some(after) => Poll::Ready(after.left.into_inner()),
            None => Poll::Pending,
        }
    }

    /// What was dropped where it is left is torn down first.
    pub(super) fn settle(mut self) -> Self {
        if let Some(frame) = self.frame.get_mut() {
            frame.settle();
        }
        self
    }
}

impl<R: Return> Drop for Leaving<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(frame) = self.frame.get_mut().take() {
            frame.detach(true);
        }
        if let Some(after) = self.after.take() {
            report::<R>(after.left.into_inner());
        }
    }
}

impl<'a, R: Return> Future for Entering<'a, R> {
    type Output = Tried<'a, R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.poll_entered(cx)
    }
}

impl<R: Return> Future for Leaving<'_, R> {
    type Output = Left<R>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        self.poll_left(cx)
    }
}

impl<R: Return> Unpin for Entering<'_, R> {}
impl<R: Return> Unpin for Entered<'_, R> {}
impl<R: Return> Unpin for Leaving<'_, R> {}

pin_project! {
    /// What is done inside a context, in a place beside that of the context's function.
    pub(super) struct Inside<F> {
        #[pin]
        body: InPlace<F>,
    }
}

impl<F> Inside<F> {
    #[inline(always)]
    pub(super) fn new(place: InnerPlace, body: F) -> Self {
        let body = InPlace::new(place, body);
        Inside { body }
    }
}

impl<F: Future> Future for Inside<F> {
    /// What it gives, or what it panics with; and its place, if something was entered there.
    type Output = (Result<F::Output, Payload>, Option<Arc<Node>>);

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut body = self.project().body;
        let ended = match catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => {
                body.as_mut().discard();
                Err(payload)
            }
        };
        Poll::Ready((ended, body.place().made().cloned()))
    }
}
