//! The error of a context that took longer than it may.

use std::time::Duration;

/// A `setup_timeout`, a `teardown_timeout` or the deadline of a scope has passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {phase} of `{name}` took longer than {limit:?}")]
pub struct Elapsed {
    pub(super) name: &'static str,
    pub(super) phase: &'static str,
    pub(super) limit: Duration,
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
