//! How a context's value leaves its function and comes back: `yield_`.
//!
//! The value lies beside the function, in one allocation: the function puts it there when it yields, the
//! guard refers to it there, and the function takes it from there when it is resumed. For the length of a poll
//! that place is in the function's reach through a thread-local reference. That takes no allocation, lock or
//! reference count, but a type that is `'static`; what borrows passes through a shared slot instead.

use std::cell::Cell;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};

use super::{Exit, Return};
use crate::teardown;

/// The place of a context's value while the function doesn't have it. With an exit, it is on its way back.
pub(super) struct Passage<R: Return> {
    pub(super) value: Option<R::Value>,
    pub(super) exit: Option<Exit>,
}

impl<R: Return> Passage<R> {
    pub(super) const EMPTY: Self = Passage {
        value: None,
        exit: None,
    };

    fn take_back(self) -> Result<(R::Value, Exit), Self> {
        match self {
            Passage {
                value: Some(value),
                exit: Some(exit),
            } => Ok((value, exit)),
            not_back => Err(not_back),
        }
    }
}

pub(super) type Slot<R> = Mutex<Passage<R>>;

pub(super) fn lock<R: Return>(slot: &Slot<R>) -> MutexGuard<'_, Passage<R>> {
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
    pub(super) fn new() -> Self {
        ByThread {
            send: |value| {
                teardown::reach(|passage: &Cell<Passage<R>>| {
                    passage.set(Passage {
                        value: Some(value),
                        exit: None,
                    });
                });
            },
            receive: || {
                let back = |passage: &Cell<Passage<R>>| match passage
                    .replace(Passage::EMPTY)
                    .take_back()
                {
                    Ok(back) => Some(back),
                    Err(not_back) => {
                        passage.set(not_back);
                        None
                    }
                };
                teardown::reach(back).flatten()
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
pub struct BySlot<R: Return>(pub(super) Arc<Slot<R>>);

impl<R: Return> Channel<R> for BySlot<R> {
    fn send(&mut self, value: R::Value) {
        lock(&self.0).value = Some(value);
    }

    fn receive(&mut self) -> Option<(R::Value, Exit)> {
        let mut slot = lock(&self.0);
        match std::mem::replace(&mut *slot, Passage::EMPTY).take_back() {
            Ok(back) => Some(back),
            Err(not_back) => {
                *slot = not_back;
                None
            }
        }
    }
}

/// What `yield_` is in a context's function; good for one yield.
pub struct Yielder<R, C> {
    channel: C,
    declared: PhantomData<fn(R)>,
}

impl<R: Return, C: Channel<R>> Yielder<R, C> {
    pub(super) fn new(channel: C) -> Self {
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
