//! What a teardown comes to.

use std::any::Any;
use std::panic::resume_unwind;
use std::time::Duration;

use super::{Elapsed, Return};
use crate::teardown::{self, TeardownError};

/// How a teardown has ended. What went wrong is in a box: it is rare, and this is moved at every exit.
pub(super) type Left<R> = Result<<R as Return>::Body, Box<Fault<R>>>;

/// What went wrong in a teardown.
pub(super) enum Fault<R: Return> {
    Failed(Failed<R>),
    Late(Late<R>),
    Panicked(Panic),
}

/// A function that has ended in an error.
pub(super) struct Failed<R: Return> {
    pub(super) name: &'static str,
    pub(super) body: R::Body,
    pub(super) failure: fn(&R::Body) -> Option<String>,
}

/// A limit that has passed, and the user's error for it.
pub(super) struct Late<R: Return> {
    elapsed: Elapsed,
    error: fn(Elapsed) -> R::Body,
}

/// The panic of a function.
pub(super) struct Panic {
    name: &'static str,
    payload: Payload,
}

/// What a panic carries.
pub(super) type Payload = Box<dyn Any + Send>;

impl<R: Return> Failed<R> {
    pub(super) fn error(&self) -> TeardownError {
        TeardownError::Failed {
            name: self.name,
            error: (self.failure)(&self.body).unwrap_or_default(),
        }
    }
}

impl<R: Return> Late<R> {
    #[cold]
    pub(super) fn new(
        name: &'static str,
        phase: &'static str,
        limit: Duration,
        error: fn(Elapsed) -> R::Body,
    ) -> Late<R> {
        let elapsed = Elapsed { name, phase, limit };
        Late { elapsed, error }
    }

    pub(super) fn error(&self) -> TeardownError {
        TeardownError::TimedOut {
            name: self.elapsed.name,
            limit: self.elapsed.limit,
        }
    }

    pub(super) fn into_body(self) -> R::Body {
        (self.error)(self.elapsed)
    }
}

impl Panic {
    /// It goes on where the teardown is awaited.
    pub(super) fn resume(self) -> ! {
        resume_unwind(self.payload)
    }

    /// It goes no further.
    pub(super) fn report(self) {
        teardown::report_panic(self.name, self.payload);
    }
}

impl<R: Return> Fault<R> {
    #[cold]
    pub(super) fn panicked(name: &'static str, payload: Payload) -> Box<Self> {
        Box::new(Fault::Panicked(Panic { name, payload }))
    }

    /// Panics if the teardown did.
    #[cold]
    pub(super) fn into_body(self) -> R::Body {
        match self {
            Fault::Failed(failed) => failed.body,
            Fault::Late(late) => late.into_body(),
            Fault::Panicked(panic) => panic.resume(),
        }
    }

    fn into_error(self) -> TeardownError {
        match self {
            Fault::Failed(failed) => failed.error(),
            Fault::Late(late) => late.error(),
            Fault::Panicked(panic) => TeardownError::panicked(panic.name, panic.payload),
        }
    }
}

/// The error, when there is nobody to give it to.
pub(super) fn outcome<R: Return>(left: Left<R>) -> Result<(), TeardownError> {
    left.map(drop).map_err(|fault| fault.into_error())
}

/// What the function's body is. Panics if the teardown did.
#[inline(always)]
pub(super) fn into_body<R: Return>(left: Left<R>) -> R::Body {
    left.unwrap_or_else(|fault| fault.into_body())
}

/// What comes of what was done inside a context and gave `result`: the first of two errors.
#[inline(always)]
pub(super) fn after<R: Return, U, B>(
    result: Result<U, B>,
    left: Left<R>,
    torn_down: impl FnOnce(R::Body) -> Result<(), B>,
) -> Result<U, B> {
    match result {
        Ok(output) => torn_down(into_body::<R>(left)).map(|()| output),
        Err(error) => {
            report::<R>(left);
            Err(error)
        }
    }
}

/// For an error that nobody takes, because there is a first one or a panic.
#[cold]
pub(super) fn report<R: Return>(left: Left<R>) {
    if let Err(error) = outcome::<R>(left) {
        teardown::report(&error);
    }
}
