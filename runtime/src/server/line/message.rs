//! What a worker tells the supervisor.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::oneshot;

#[cfg(feature = "timer")]
use super::single::{Reply, SingleCall};

/// What a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A TCP listener, with the address as it was written and what it resolved to.
    Listen {
        asked: String,
        addrs: Vec<SocketAddr>,
        /// Every one of them, not the first that can be bound.
        all: bool,
    },
    /// A socket that a service manager has passed under this name.
    Named {
        kind: Passed,
        name: String,
    },
    ListenUnix {
        path: PathBuf,
        mode: u32,
    },
    BindUdp {
        asked: String,
        addrs: Vec<SocketAddr>,
    },
    /// That what was asked for as this is closed.
    Unlisten {
        asked: String,
    },
}

/// What a worker takes a socket for that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "process", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Passed {
    Tcp,
    Udp,
    Unix,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Passed::Tcp => "TCP",
            Passed::Udp => "UDP",
            Passed::Unix => "Unix stream",
        })
    }
}

/// A socket, where one was asked for.
pub(crate) type Answer = io::Result<Option<OwnedFd>>;

/// What a worker tells the supervisor.
pub(crate) enum Message {
    Ready,
    /// The answer to a ping; 0, which nobody has asked for, says that the event loop has begun to turn.
    Pong(u64),
    /// How many connections its accept loops have accepted so far.
    Accepted(u64),
    /// A process worker got a stop signal of its own.
    #[cfg(feature = "process")]
    Signalled(crate::server::Signal),
    Request(Request, oneshot::Sender<Answer>),
    /// About a timer with `single`.
    #[cfg(feature = "timer")]
    Single(SingleCall, Reply),
    /// An accept loop of the worker's, by its number, accepts from the socket of this inode and can take
    /// [loans](super::Loan).
    Accepts {
        serving: u64,
        socket: u64,
    },
    /// As [`Accepts`](Message::Accepts), of a Unix socket, which all workers have: the accept loop takes turns with theirs.
    TakesTurns {
        serving: u64,
        socket: u64,
    },
    /// That accept loop has had its turn.
    TurnOver {
        serving: u64,
    },
    /// That accept loop has ended.
    AcceptsNoMore {
        serving: u64,
    },
    /// That accept loop may have no more connections open, or may again.
    Full {
        serving: u64,
        full: bool,
    },
    /// Its event loop doesn't turn, or does again.
    Blocked(bool),
    /// The answer to a query of this number.
    #[cfg(feature = "monitor")]
    Answered(u64, Vec<u8>),
    /// What has gone wrong in the background, in JSON.
    #[cfg(feature = "monitor")]
    Happened(Vec<u8>),
    /// What it has counted, at its end.
    #[cfg(feature = "monitor")]
    LastFigures(Vec<u8>),
    /// Its event loop turns no more, and its process is about to end.
    #[cfg(feature = "process")]
    Exiting,
    /// It has come to its end without having been asked; what it left to be done is still to be done.
    Ending(Option<Failure>),
    Ended(Ended),
}

/// How a worker came to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) failure: Option<Failure>,
    /// Something was cut off because the deadline had come.
    pub(crate) overran: bool,
}

/// Why a worker, an extra or the main context failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It returned an error.
    Error(String),
    /// It panicked.
    Panic(String),
    /// The system didn't let it start.
    Spawn(String),
    /// Its thread or process ended without a word.
    Died(String),
    /// A stop signal, meant for it alone, killed it before it could handle signals.
    #[cfg(feature = "process")]
    StopSignal(crate::server::Signal),
}

impl Failure {
    /// Not of the worker's code, which has told its own before.
    pub(crate) fn is_of_the_end_itself(&self) -> bool {
        !matches!(self, Failure::Error(_) | Failure::Panic(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(text) | Failure::Died(text) => f.write_str(text),
            Failure::Panic(text) => write!(f, "panicked: {text}"),
            #[cfg(feature = "process")]
            Failure::StopSignal(signal) => write!(f, "killed by {signal} while it was starting"),
            Failure::Spawn(text) => write!(f, "could not be started: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_and_whether_the_worker_has_told_it() {
        let text = || "no space".to_owned();
        let told = true;
        let found = false;
        let failures = [
            (Failure::Error(text()), "no space", told),
            (Failure::Panic(text()), "panicked: no space", told),
            (
                Failure::Spawn(text()),
                "could not be started: no space",
                found,
            ),
            (Failure::Died(text()), "no space", found),
            #[cfg(feature = "process")]
            (
                Failure::StopSignal(crate::server::Signal::SIGTERM),
                "killed by SIGTERM while it was starting",
                found,
            ),
        ];
        for (failure, says, told) in failures {
            assert_eq!(failure.to_string(), says);
            assert_eq!(failure.is_of_the_end_itself(), !told, "{failure:?}");
        }
    }

    #[test]
    fn what_a_socket_is_taken_for_is_called_as_usual() {
        let called = [Passed::Tcp, Passed::Udp, Passed::Unix].map(|passed| passed.to_string());
        assert_eq!(called, ["TCP", "UDP", "Unix stream"]);
    }
}
