//! Async context managers: setup, guard, guaranteed teardown. Written with
//! [`#[actxmgr]`](macro@crate::actxmgr), which tells the whole of it.

mod exit;
mod frame;
mod futures;
mod group;
mod returns;
mod stack;
mod surface;
mod watch;

use std::time::Duration;

pub use exit::Exit;
pub use group::{Group, group};
pub use returns::{Always, Return};
pub use stack::{Ending, ExitErrors, ExitStack};
pub use surface::{
    BorrowedContext, BorrowedEnter, BorrowedGuard, BorrowedLeave, Context, Enter, Guard, Leave,
};

#[cfg(feature = "scope")]
pub(crate) use watch::Watch;

#[doc(hidden)]
pub use frame::Yielder;
#[doc(hidden)]
pub use returns::Outcome;
#[doc(hidden)]
pub use surface::{borrowed_context, context};

/// A `setup_timeout` or a `teardown_timeout` has passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {phase} of `{name}` took longer than {limit:?}")]
pub struct Elapsed {
    name: &'static str,
    phase: &'static str,
    limit: Duration,
}

impl Elapsed {
    #[cfg(feature = "scope")]
    pub(crate) fn new(name: &'static str, phase: &'static str, limit: Duration) -> Elapsed {
        Elapsed { name, phase, limit }
    }

    /// The function that the context was made by.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The length of time that was allowed.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}
