//! How requests fail, by kind, and how many did.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Serialize, Serializer};

/// How a request failed, and its connection with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    Refused,
    Reset,
    TimedOut,
    ClosedEarly,
    WrongBytes,
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Failure::Reset,
            io::ErrorKind::TimedOut => Failure::TimedOut,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Failure::ClosedEarly,
            _ => Failure::Other(error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused"),
            Failure::Reset => f.write_str("reset"),
            Failure::TimedOut => f.write_str("timed out"),
            Failure::ClosedEarly => f.write_str("closed early"),
            Failure::WrongBytes => f.write_str("wrong bytes"),
            Failure::Other(error) => write!(f, "other: {error}"),
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Failed connections by kind; one that a request fails on is a failed one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Failures(BTreeMap<Failure, u64>);

impl Default for Failures {
    /// None of each kind, so that it is told which were looked for.
    fn default() -> Failures {
        use Failure::*;
        let kinds = [Refused, Reset, TimedOut, ClosedEarly, WrongBytes];
        Failures(kinds.into_iter().map(|kind| (kind, 0)).collect())
    }
}

impl Failures {
    pub(crate) fn count(&mut self, failure: Failure) {
        *self.0.entry(failure).or_default() += 1;
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Failures) {
        for (failure, count) in &other.0 {
            *self.0.entry(failure.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = self.0.iter().filter(|(_, count)| **count > 0);
        let kinds: Vec<String> = some
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        match kinds.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&kinds.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_error_is_told_as_it_is() {
        let failure = Failure::from(io::Error::other("no buffer space"));
        let mut failures = Failures::default();
        failures.count(failure.clone());
        failures.count(failure);
        failures.count(Failure::Reset);
        assert_eq!(failures.to_string(), "1 reset, 2 other: no buffer space");
        assert_eq!(Failures::default().to_string(), "none");
    }
}
