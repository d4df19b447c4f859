//! What a context may have beside its function: something that ends the body of `with`, and that hears at once
//! when nobody waits for the context any more. A scope is what has it.

#[cfg(feature = "scope")]
use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use pin_project_lite::pin_project;

use super::Exit;

pub(crate) trait Watch: Send + Sync {
    #[cfg(feature = "scope")]
    fn as_any(&self) -> &dyn Any;

    /// Ready when the body of `with` is to be dropped, because the teardown is going to fail. If not, the waker
    /// is kept.
    fn poll_failed(&self, cx: &mut task::Context<'_>) -> Poll<()>;

    /// The context is left in a failure, or dropped. Its teardown may have to wait for others before it begins.
    /// Neither blocks nor panics.
    fn left(self: Arc<Self>, exit: &Exit);
}

/// What has become of a body.
pub(super) enum Run<T> {
    Ended(T),
    /// The teardown is going to fail, whatever the body has given, if it has.
    Interrupted(Option<T>),
}

pin_project! {
    pub(super) struct Watched<F> {
        // Thin, because most contexts have none.
        watch: Option<Box<Arc<dyn Watch>>>,
        #[pin]
        body: F,
    }
}

/// Polls `body` until it ends or `watch` has failed. That is looked at before the body is polled and after it has
/// ended: a body that ends in an error because of the failure doesn't hide it.
#[inline(always)]
pub(super) fn watched<F: Future>(watch: Option<Arc<dyn Watch>>, body: F) -> Watched<F> {
    let watch = watch.map(Box::new);
    Watched { watch, body }
}

impl<F: Future> Future for Watched<F> {
    type Output = Run<F::Output>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(watch) = this.watch else {
            return this.body.poll(cx).map(Run::Ended);
        };
        if watch.poll_failed(cx).is_ready() {
            return Poll::Ready(Run::Interrupted(None));
        }
        let Poll::Ready(output) = this.body.poll(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match watch.poll_failed(cx) {
            Poll::Ready(()) => Run::Interrupted(Some(output)),
            Poll::Pending => Run::Ended(output),
        })
    }
}
