//! The declared return types of contexts.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use crate::report::in_full;

/// The declared return type of a context that cannot fail: `-> Always<T>`.
///
/// `#[actxmgr]` uses it by itself for every return type that isn't called `Result`; it is written out when
/// `T` is a `Result` that is to be the value, or a type of one's own that happens to be called so. There are
/// no values of it.
///
/// ```
/// use std::num::ParseIntError;
/// use aioxide::{Always, actxmgr};
///
/// #[actxmgr]
/// async fn parsed(text: &'static str) -> Always<Result<u16, ParseIntError>> {
///     yield_(text.parse()).await;
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let guard = parsed("no number").await;
/// assert!(guard.is_err());
/// guard.exit().await;
/// # });
/// ```
pub struct Always<T>(PhantomData<fn() -> T>, Infallible);

/// The declared return types of contexts: `Result<T, E>`, which may fail, and [`Always<T>`], which may not.
///
/// Sealed: there are no others.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a context can return",
    label = "neither a `Result<T, E>` nor an `Always<T>`",
    note = "a type whose name ends in `Result` makes the context fallible and must be the `Result` of `core`",
    note = "write `Always<{Self}>` if this type is the value itself, or write the aliased `Result<T, E>` out"
)]
pub trait Return: sealed::Sealed {
    /// What the context yields.
    type Value;
    /// What the body ends in, and what an exit gives: `Result<(), E>` or `()`.
    type Body;
    /// What an enter gives: `Result<G, E>` or `G`, where `G` is the guard.
    type Entered<G>;

    #[doc(hidden)]
    type Kind: Kind<Body = Self::Body>;

    #[doc(hidden)]
    fn entered<G>(guard: G) -> Self::Entered<G>;
    /// A body that ended before its yield; `None` if it was a success, which is the body's mistake.
    #[doc(hidden)]
    fn refused<G>(body: Self::Body) -> Option<Self::Entered<G>>;
    /// The guard, or what the body ended in before its yield.
    #[doc(hidden)]
    fn into_guard<G>(entered: Self::Entered<G>) -> Result<G, Self::Body>;
}

/// Whether, and with what, a context fails: its declared return type apart from the value.
#[doc(hidden)]
pub trait Kind: sealed::Sealed {
    type Body;
    type Error;
    type Declared<V>: Return<Value = V, Body = Self::Body, Kind = Self>;

    fn body(result: Result<(), Self::Error>) -> Self::Body;
    fn result(body: Self::Body) -> Result<(), Self::Error>;
    fn is_error(body: &Self::Body) -> bool;
}

/// The kind of `Result<T, E>`.
#[doc(hidden)]
pub struct Fallible<E>(PhantomData<fn() -> E>, Infallible);

/// The kind of `Always<T>`.
#[doc(hidden)]
pub struct Never(Infallible);

impl<E> Kind for Fallible<E> {
    type Body = Result<(), E>;
    type Error = E;
    type Declared<V> = Result<V, E>;

    fn body(result: Result<(), E>) -> Result<(), E> {
        result
    }

    fn result(body: Result<(), E>) -> Result<(), E> {
        body
    }

    fn is_error(body: &Result<(), E>) -> bool {
        body.is_err()
    }
}

impl Kind for Never {
    type Body = ();
    type Error = Infallible;
    type Declared<V> = Always<V>;

    fn body(_: Result<(), Infallible>) {}

    fn result((): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_error((): &()) -> bool {
        false
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T, E> Sealed for Result<T, E> {}
    impl<T> Sealed for super::Always<T> {}
    impl<E> Sealed for super::Fallible<E> {}
    impl Sealed for super::Never {}
}

impl<T, E> Return for Result<T, E> {
    type Value = T;
    type Body = Result<(), E>;
    type Entered<G> = Result<G, E>;
    type Kind = Fallible<E>;

    fn entered<G>(guard: G) -> Result<G, E> {
        Ok(guard)
    }

    fn refused<G>(body: Result<(), E>) -> Option<Result<G, E>> {
        body.err().map(Err)
    }

    fn into_guard<G>(entered: Result<G, E>) -> Result<G, Result<(), E>> {
        entered.map_err(Err)
    }
}

impl<T> Return for Always<T> {
    type Value = T;
    type Body = ();
    type Entered<G> = G;
    type Kind = Never;

    fn entered<G>(guard: G) -> G {
        guard
    }

    fn refused<G>((): ()) -> Option<G> {
        None
    }

    fn into_guard<G>(guard: G) -> Result<G, ()> {
        Ok(guard)
    }
}

/// What the teardown of a context ends in, as the reports need it.
#[diagnostic::on_unimplemented(
    message = "the error of this context cannot be displayed",
    label = "its error type doesn't implement `Display`",
    note = "an error that a teardown returns with nobody to take it is logged: implement `Display` for it"
)]
#[doc(hidden)]
pub trait Outcome {
    fn failure(&self) -> Option<String>;
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn failure(&self) -> Option<String> {
        self.as_ref().err().map(in_full)
    }
}

impl Outcome for () {
    fn failure(&self) -> Option<String> {
        None
    }
}
