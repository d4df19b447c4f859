//! What both kinds of contexts, owned and borrowed, have in common: entering, being entered, leaving.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{self, Poll, ready};

use pin_project_lite::pin_project;

use super::frame::{Frame, Left, Meta, Parcel, Setup};
use super::{Exit, Return};
use crate::teardown;

/// On the way to the yield.
pub(super) struct Entering<'a, R: Return> {
    /// `None` once it is entered or has failed.
    frame: Option<Frame<'a, R>>,
}

impl<'a, R: Return> Entering<'a, R> {
    #[inline(always)]
    pub(super) fn new(frame: Frame<'a, R>) -> Self {
        Entering { frame: Some(frame) }
    }

    /// For what is set before the context is entered.
    pub(super) fn set(mut self, set: impl FnOnce(&mut Meta<'a, R>)) -> Self {
        if let Some(meta) = self.frame.as_mut().and_then(Frame::meta) {
            set(meta);
        }
        self
    }

    #[inline(always)]
    pub(super) fn poll<G>(
        &mut self,
        cx: &mut task::Context<'_>,
        guard: impl FnOnce(Entered<'a, R>) -> G,
    ) -> Poll<R::Entered<G>> {
        let Some(frame) = &mut self.frame else {
            panic!("`Enter` was polled after its end");
        };
        let (name, refused) = match ready!(frame.poll_setup(cx)) {
            Ok(Setup::Yielded(mut parcel)) => {
                parcel.hold(self.frame.take());
                let held = Some(parcel);
                return Poll::Ready(R::entered(guard(Entered { held })));
            }
            Ok(Setup::Ended(ended)) => (ended.name, R::refused(ended.body)),
            Err(late) => ("", R::refused(late.into_body())),
        };
        if let Some(frame) = self.frame.take() {
            frame.give_up();
        }
        match refused {
            Some(refused) => Poll::Ready(refused),
            None => panic!(
                "`{name}` ended without an error before it reached its `yield_`: there is nothing to enter"
            ),
        }
    }
}

impl<R: Return> Drop for Entering<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            frame.give_up();
        }
    }
}

/// At the yield.
pub(super) struct Entered<'a, R: Return> {
    /// `None` once it is left.
    held: Option<Box<Parcel<'a, R>>>,
}

const GONE: &str = "a guard holds its value until it is left";

impl<'a, R: Return> Entered<'a, R> {
    #[inline(always)]
    pub(super) fn value(&self) -> &R::Value {
        &self.held.as_ref().expect(GONE).value
    }

    #[inline(always)]
    pub(super) fn value_mut(&mut self) -> &mut R::Value {
        &mut self.held.as_mut().expect(GONE).value
    }

    #[inline(always)]
    pub(super) fn leave(mut self, exit: Exit) -> Leaving<'a, R> {
        let parcel = self.held.take().expect(GONE);
        Leaving {
            frame: parcel.leave(exit),
        }
    }
}

impl<R: Return> Drop for Entered<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(parcel) = self.held.take() else {
            return;
        };
        let exit = if std::thread::panicking() {
            Exit::Panicked
        } else {
            Exit::Cancelled
        };
        if let Some(frame) = parcel.leave(exit) {
            frame.detach(true);
        }
    }
}

/// On the way from the yield to the end.
pub(super) struct Leaving<'a, R: Return> {
    /// `None` at its end.
    frame: Option<Frame<'a, R>>,
}

impl<R: Return> Leaving<'_, R> {
    #[inline(always)]
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        let Some(frame) = &mut self.frame else {
            panic!("`Leave` was polled after its end");
        };
        ready!(frame.poll_order(cx));
        let left = ready!(frame.poll_teardown(cx));
        self.frame = None;
        Poll::Ready(left)
    }

    /// Polls to the end of a teardown whose error nobody takes, because there is a first one or a panic.
    pub(super) async fn reported(mut self) {
        let meta = self.frame.as_mut().and_then(Frame::meta);
        let name = meta.map_or("", |meta| meta.name);
        match catch(poll_fn(|cx| self.poll(cx))).await {
            Ok(left) => left.report(),
            Err(panic) => teardown::report_panic(name, panic),
        }
    }
}

impl<R: Return> Drop for Leaving<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            frame.detach(true);
        }
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

pub(super) type Caught<T> = Result<T, Box<dyn Any + Send>>;

#[inline(always)]
pub(super) fn catch<F: Future>(future: F) -> Catch<F> {
    Catch { future }
}

impl<F: Future> Future for Catch<F> {
    type Output = Caught<F::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
