//! What both kinds of contexts, owned and borrowed, have in common: entering, being entered, leaving.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};

use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tokio::runtime::Handle;

use super::frame::{Frame, Left, Meta, Setup, never_yielded};
use super::watch::Watch;
use super::{Exit, Return};
use crate::teardown::{self, InnerPlace, Place, Wait};

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
            Ok(Setup::Ended(ended)) => (ended.name, ended.body),
            Err(late) => (late.name(), late.into_body()),
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
        let mut frame = self.frame.take().expect(GONE);
        frame.give_back(exit);
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
    name: &'static str,
    ended: SyncWrapper<Result<Left<R>, Panic>>,
    wait: Wait,
}

type Panic = Box<dyn Any + Send>;

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
        let ended = match catch_unwind(AssertUnwindSafe(|| frame.poll_teardown(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(left)) => Ok(left),
            Err(panic) => Err(panic),
        };
        #[cfg(feature = "monitor")]
        frame.count_end(ended.as_ref().ok());
        let name = self.name();
        match self.frame.get_mut().take().and_then(Frame::discard) {
            None => Poll::Ready(ended.unwrap_or_else(|panic| resume_unwind(panic))),
            Some(wait) => {
                let ended = SyncWrapper::new(ended);
                self.after = Some(Box::new(After { name, ended, wait }));
                self.poll_after(cx)
            }
        }
    }

    #[cold]
    fn poll_after(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        if let Some(after) = &mut self.after {
            ready!(Pin::new(&mut after.wait).poll(cx));
        }
        match self.after.take() {
            Some(after) => {
                let ended = after.ended.into_inner();
                Poll::Ready(ended.unwrap_or_else(|panic| resume_unwind(panic)))
            }
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

    /// What is pending in `body`, which has just ended, is torn down first.
    pub(super) fn after_body(mut self, body: InnerPlace) -> Self {
        if let Some(frame) = self.frame.get_mut() {
            frame.contain(body);
        }
        self
    }

    pub(super) fn name(&mut self) -> &'static str {
        let frame = self.frame.get_mut().as_mut();
        frame.map_or("", |frame| frame.meta().name)
    }

    /// Polls to the end of a teardown whose error nobody takes, because there is a first one or a panic.
    pub(super) async fn reported(mut self) {
        let name = self.name();
        match catch(self).await {
            Ok(left) => left.report(),
            Err(panic) => teardown::report_panic(name, panic),
        }
    }
}

impl<R: Return> Drop for Leaving<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(frame) = self.frame.get_mut().take() {
            frame.detach(true);
        }
        if let Some(after) = self.after.take() {
            match after.ended.into_inner() {
                Ok(left) => left.report(),
                Err(panic) => teardown::report_panic(after.name, panic),
            }
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        self.poll_left(cx)
    }
}

impl<R: Return> Unpin for Entering<'_, R> {}
impl<R: Return> Unpin for Entered<'_, R> {}
impl<R: Return> Unpin for Leaving<'_, R> {}

pin_project! {
    /// What a future gives, or what it panics with.
    pub(super) struct Catch<F> {
        #[pin]
        future: F,
    }
}

#[inline(always)]
pub(super) fn catch<F: Future>(future: F) -> Catch<F> {
    Catch { future }
}

impl<F: Future> Future for Catch<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
