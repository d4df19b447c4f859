//! What both kinds of contexts, owned and borrowed, have in common: entering, being entered, leaving.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{self, Poll, ready};

use super::frame::{Bound, Frame, Left, Limits, Setup};
use super::{Elapsed, Exit, Return};
use crate::teardown::{self, Origin, Turn};

/// On the way to the yield.
pub(super) struct Entering<'a, R: Return> {
    /// `None` once it is entered or has failed.
    frame: Option<Frame<'a, R>>,
    armed: bool,
    bound: Bound,
}

impl<'a, R: Return> Entering<'a, R> {
    pub(super) fn new(frame: Frame<'a, R>) -> Self {
        Entering {
            frame: Some(frame),
            armed: false,
            bound: Bound::default(),
        }
    }

    /// For members of a group: they don't wait for each other when they are torn down.
    pub(super) fn set_group(&mut self, group: u64) {
        if let Some(meta) = self.frame.as_mut().and_then(Frame::meta) {
            meta.group = group;
        }
    }

    pub(super) fn finish_setup(&mut self) {
        if let Some(meta) = self.frame.as_mut().and_then(Frame::meta) {
            meta.finish_setup = true;
        }
    }

    pub(super) fn limits(&mut self, elapsed: fn(Elapsed) -> R::Body) -> Option<&mut Limits<R>> {
        let meta = self.frame.as_mut()?.meta()?;
        Some(meta.limits.get_or_insert_with(|| {
            Box::new(Limits {
                setup: None,
                teardown: None,
                elapsed,
            })
        }))
    }

    pub(super) fn poll<G>(
        &mut self,
        cx: &mut task::Context<'_>,
        guard: impl FnOnce(Entered<'a, R>) -> G,
    ) -> Poll<R::Entered<G>> {
        let Some(frame) = &mut self.frame else {
            panic!("`Enter` was polled after its end");
        };
        if !self.armed {
            frame.arm();
            self.armed = true;
        }
        match frame.poll_setup(cx) {
            Poll::Ready(Setup::Yielded(value)) => Poll::Ready(R::entered(guard(Entered {
                held: self.frame.take().map(|frame| (value, frame)),
            }))),
            Poll::Ready(Setup::Ended(ended)) => {
                self.frame = None;
                let name = ended.name;
                Poll::Ready(R::refused(ended.body).unwrap_or_else(|| {
                    panic!(
                        "`{name}` ended without an error before it reached its `yield_`: \
                         there is nothing to enter"
                    )
                }))
            }
            Poll::Pending => {
                let late = frame.late_setup(&mut self.bound, cx);
                let Some(late) = late else {
                    return Poll::Pending;
                };
                self.give_up();
                let refused = R::refused(late.into_body());
                Poll::Ready(refused.unwrap_or_else(|| panic!("a timeout without an error")))
            }
        }
    }

    /// The setup isn't waited for any longer.
    fn give_up(&mut self) {
        let Some(mut frame) = self.frame.take() else {
            return;
        };
        if self.armed && frame.meta().is_some_and(|meta| meta.finish_setup) {
            frame.detach(false);
        }
    }
}

impl<R: Return> Drop for Entering<'_, R> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// At the yield.
pub(super) struct Entered<'a, R: Return> {
    /// `None` once it is left.
    held: Option<(R::Value, Frame<'a, R>)>,
}

const GONE: &str = "a guard holds its value until it is left";

impl<'a, R: Return> Entered<'a, R> {
    pub(super) fn value(&self) -> &R::Value {
        &self.held.as_ref().expect(GONE).0
    }

    pub(super) fn value_mut(&mut self) -> &mut R::Value {
        &mut self.held.as_mut().expect(GONE).0
    }

    pub(super) fn leave(mut self, exit: Exit) -> Leaving<'a, R> {
        let (value, mut frame) = self.held.take().expect(GONE);
        frame.leave(value, exit);
        let name = frame.meta().map_or("", |meta| meta.name);
        Leaving {
            frame: Some(frame),
            name,
            turn: Order::Unknown,
            bound: Bound::default(),
        }
    }
}

impl<R: Return> Drop for Entered<'_, R> {
    fn drop(&mut self) {
        let Some((value, frame)) = self.held.take() else {
            return;
        };
        let exit = if std::thread::panicking() {
            Exit::Panicked
        } else {
            Exit::Cancelled
        };
        frame.leave(value, exit);
        frame.detach(true);
    }
}

enum Order {
    /// Not yet polled.
    Unknown,
    /// Waits for inner contexts that were dropped before.
    Waiting(Box<Turn<Origin>>),
    Come,
}

/// On the way from the yield to the end.
pub(super) struct Leaving<'a, R: Return> {
    /// `None` at its end.
    frame: Option<Frame<'a, R>>,
    name: &'static str,
    turn: Order,
    bound: Bound,
}

impl<R: Return> Leaving<'_, R> {
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Left<R>> {
        let Some(frame) = &mut self.frame else {
            panic!("`Leave` was polled after its end");
        };
        if let Order::Unknown = self.turn {
            self.turn = match frame.meta() {
                Some(meta) if teardown::any_pending() => {
                    Order::Waiting(Box::new(teardown::turn(meta.seq, meta.group)))
                }
                _ => Order::Come,
            };
        }
        if let Order::Waiting(turn) = &self.turn {
            ready!(teardown::poll_turn(turn, cx));
            self.turn = Order::Come;
        }
        let left = ready!(frame.poll_teardown(&mut self.bound, cx));
        self.frame = None;
        Poll::Ready(left)
    }

    /// Polls to the end of a teardown whose error nobody takes, because there is a first one or a panic.
    pub(super) async fn reported(mut self) {
        let left = catch(poll_fn(|cx| self.poll(cx)));
        match left.await {
            Ok(left) => left.report(),
            Err(panic) => teardown::report_panic(self.name, panic),
        }
    }
}

impl<R: Return> Drop for Leaving<'_, R> {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            frame.detach(true);
        }
    }
}

impl<R: Return> Unpin for Entering<'_, R> {}
impl<R: Return> Unpin for Entered<'_, R> {}
impl<R: Return> Unpin for Leaving<'_, R> {}

/// What `future` gives, or what it panics with.
pub(super) async fn catch<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}
