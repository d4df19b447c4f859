//! When workers are replaced although nothing is wrong with them.

use std::iter::{Once, once};
use std::time::Duration;

/// When a worker is replaced although nothing is wrong with it, for [`Server::recycle`](super::Server::recycle): against
/// memory that leaks or is in pieces, and for settings and names that are read once.
///
/// Each limit is up to 10 % less for each worker, at random, so that they aren't all due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recycle(pub(crate) Limit);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    After(Duration),
    Connections(u64),
    Memory(u64),
}

impl Recycle {
    /// Once it has been ready for so long.
    pub const fn after(time: Duration) -> Recycle {
        Recycle(Limit::After(time))
    }

    /// Once it has accepted so many connections by [`Worker::serve`](super::Worker::serve). They are looked at every
    /// second.
    pub const fn after_connections(connections: u64) -> Recycle {
        Recycle(Limit::Connections(connections))
    }

    /// Once the resident set of its process is larger than so many bytes. It is read every 10 s. Threads share theirs, so a
    /// server with thread workers is refused when it is run.
    pub const fn over(bytes: u64) -> Recycle {
        Recycle(Limit::Memory(bytes))
    }
}

/// Itself alone.
impl IntoIterator for Recycle {
    type Item = Recycle;
    type IntoIter = Once<Recycle>;

    fn into_iter(self) -> Once<Recycle> {
        once(self)
    }
}

/// The least of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) time: Option<Duration>,
    pub(crate) connections: Option<u64>,
    pub(crate) memory: Option<u64>,
}

impl Limits {
    pub(crate) fn of(all: &[Recycle]) -> Limits {
        let mut limits = Limits::default();
        for Recycle(limit) in all {
            match *limit {
                Limit::After(time) => limits.time = least(limits.time, time),
                Limit::Connections(most) => limits.connections = least(limits.connections, most),
                Limit::Memory(bytes) => limits.memory = least(limits.memory, bytes),
            }
        }
        limits
    }
}

fn least<T: Ord>(one: Option<T>, other: T) -> Option<T> {
    one.into_iter().chain([other]).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_limits_of_a_kind_the_least_counts() {
        let second = Duration::from_secs(1);
        let limits = Limits::of(&[
            Recycle::after(2 * second),
            Recycle::after(second),
            Recycle::after(3 * second),
            Recycle::over(7),
        ]);
        let (time, memory) = (Some(second), Some(7));
        assert_eq!(
            limits,
            Limits {
                time,
                memory,
                connections: None
            }
        );
    }
}
