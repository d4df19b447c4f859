//! In what a task of a scope may end.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use crate::panic;

/// How a task has ended, if nobody aborted it.
#[doc(hidden)]
pub enum Ended<T, E> {
    Value(T),
    Failed(E),
    Panicked(Box<dyn Any + Send>),
    /// It was asked to end, and had nothing to say any more.
    Cancelled,
}

/// What ends a scope before its time.
pub(super) enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

impl<E: fmt::Display> Failure<E> {
    /// Tells of a failure that nobody gets, and what becomes of the task.
    pub(super) fn report(self, name: &Name, then: fmt::Arguments<'_>) {
        let (verb, text) = match self {
            Failure::Error(error) => ("failed", panic::catch(|| format!("{error:#}"))),
            Failure::Panic(payload) => ("panicked", Ok(panic::into_text(payload))),
        };
        // An error's `Display` may panic too.
        let text = text.unwrap_or_else(panic::into_text);
        panic::guarded(|| match &**name {
            "" => tracing::error!("a task of a scope {verb}{then}: {text}"),
            task => tracing::error!(task, "`{task}`, a task of a scope, {verb}{then}: {text}"),
        });
    }
}

impl<T, E> From<Failure<E>> for Ended<T, E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Error(error) => Ended::Failed(error),
            Failure::Panic(panic) => Ended::Panicked(panic),
        }
    }
}

/// What reports call a task; empty if it has no name.
pub(super) type Name = Cow<'static, str>;

/// What a task of a [`Scope<E>`](crate::Scope) may return: `Result<T, E>` with exactly that `E`, or `()`; or nothing
/// ever, as a `loop` without an end does.
///
/// Sealed: there are no others.
#[diagnostic::on_unimplemented(
    message = "a task of a scope whose errors are `{E}` can't return `{Self}`",
    label = "returns `{Self}`",
    note = "return `Result<T, {E}>` or `()`; turn other errors into `{E}` with `map_err`",
    note = "`spawn_value` takes futures of any type, and nothing that they return fails the scope"
)]
pub trait ChildReturn<E>: sealed::Sealed<E> {
    /// What a [`ScopedTask`](crate::ScopedTask) gives.
    type Value;

    #[doc(hidden)]
    fn end(self) -> Ended<Self::Value, E>;
}

/// `!`, which can't be written as a type of its own yet.
type Never = <fn() -> ! as Returns>::Output;

#[doc(hidden)]
pub trait Returns {
    type Output;
}

impl<T> Returns for fn() -> T {
    type Output = T;
}

mod sealed {
    pub trait Sealed<E> {}
    impl<E> Sealed<E> for () {}
    impl<T, E> Sealed<E> for Result<T, E> {}
    impl<E> Sealed<E> for super::Never {}
    impl<T, E> Sealed<E> for super::Ended<T, E> {}
}

impl<E> ChildReturn<E> for () {
    type Value = ();

    fn end(self) -> Ended<(), E> {
        Ended::Value(())
    }
}

impl<E> ChildReturn<E> for Never {
    type Value = Never;

    fn end(self) -> Ended<Never, E> {
        self
    }
}

impl<T, E> ChildReturn<E> for Result<T, E> {
    type Value = T;

    fn end(self) -> Ended<T, E> {
        match self {
            Ok(value) => Ended::Value(value),
            Err(error) => Ended::Failed(error),
        }
    }
}

impl<T, E> ChildReturn<E> for Ended<T, E> {
    type Value = T;

    fn end(self) -> Ended<T, E> {
        self
    }
}
