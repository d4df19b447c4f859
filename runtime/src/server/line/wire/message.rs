//! The messages.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_MAIN, WireError};
use crate::server::line::{Passed, Role};
#[cfg(feature = "timer")]
use crate::server::line::{SingleAnswer, SingleCall};
use crate::server::stop::{Signal, StopReason};

/// From the supervisor to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) enum ToWorker {
    /// Always the first.
    Hello(Assignment),
    /// A part of the main context's value.
    Main {
        bytes: Bytes,
        last: bool,
    },
    /// The answer to a request of this number.
    Answer {
        request: u64,
        answer: Answer,
    },
    Stop {
        reason: Reason,
        left: Duration,
    },
    /// The server is going, and stops after its delay.
    Going,
    /// SIGUSR1.
    Tell,
    Ping(u64),
    /// An accept loop is to accept from the socket that comes with this message too.
    Lend {
        serving: u64,
        loan: u64,
    },
    /// An accept loop is to let go of that socket.
    TakeBack {
        serving: u64,
        loan: u64,
    },
    /// An accept loop is to leave its own socket to others, or to accept from it in its turn.
    Rest {
        serving: u64,
        rest: bool,
    },
    /// The answer to a call of this number about a timer with `single`.
    #[cfg(feature = "timer")]
    Single {
        request: u64,
        answer: SingleAnswer,
    },
    /// A timer with `single` may be free.
    #[cfg(feature = "timer")]
    Freed,
    /// A question of those who look into the server, in JSON.
    #[cfg(feature = "monitor")]
    Query {
        number: u64,
        query: Bytes,
    },
    /// The next part of that answer.
    #[cfg(feature = "monitor")]
    More(u64),
}

/// From a worker to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) enum ToSupervisor {
    /// Always the first.
    Hello {
        pid: u32,
    },
    Listen {
        request: u64,
        wanted: Wanted,
    },
    Unlisten {
        request: u64,
        text: String,
    },
    /// An accept loop accepts from the socket of this inode.
    Accepts {
        serving: u64,
        socket: u64,
    },
    AcceptsNoMore {
        serving: u64,
    },
    /// An accept loop takes turns with others at the socket of this inode.
    TakesTurns {
        serving: u64,
        socket: u64,
    },
    TurnOver {
        serving: u64,
    },
    #[cfg(feature = "timer")]
    Single {
        request: u64,
        call: SingleCall,
    },
    /// That accept loop may have no more connections open, or may again.
    Full {
        serving: u64,
        full: bool,
    },
    Ready,
    /// The worker's event loop doesn't turn, or does again.
    Blocked(bool),
    /// The worker has got a stop signal of its own, by number.
    Signalled(i32),
    Pong(u64),
    /// A part of the answer to the query of this number. The next one follows when it is asked for.
    #[cfg(feature = "monitor")]
    Answered {
        number: u64,
        part: Bytes,
        last: bool,
    },
    /// What has gone wrong in the background, in JSON.
    #[cfg(feature = "monitor")]
    Happened(Bytes),
    /// A part of what the worker has counted, at its end, in JSON.
    #[cfg(feature = "monitor")]
    LastFigures {
        part: Bytes,
        last: bool,
    },
    /// How many connections it has accepted so far.
    Accepted(u64),
    /// Something that whoever reads the supervisor's log should know.
    Reported(String),
    /// The worker has come to its end without having been asked, for this reason if it has failed.
    Ending {
        failure: Option<String>,
    },
    /// The worker is about to exit, for this reason if it has failed.
    Ended {
        failure: Option<String>,
        /// Something was cut off because the deadline had come.
        overran: bool,
    },
}

/// What a worker is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) struct Assignment {
    /// The server's name.
    pub server: String,
    pub role: Role,
    pub count: usize,
    pub generation: u64,
    /// How long the worker may go on without its supervisor.
    pub shutdown_timeout: Duration,
    /// Which signals the worker reports instead of dying of them, by number.
    pub stop_signals: Vec<i32>,
    pub run_to_completion: bool,
    /// How many connections may be open at once.
    pub max_connections: Option<usize>,
    /// Whether a main context's value follows.
    pub main: bool,
    /// Whether the worker may be asked.
    #[cfg(feature = "monitor")]
    #[serde(default)]
    pub watched: bool,
}

/// What a worker wants to listen on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) enum Wanted {
    Tcp {
        text: String,
        addresses: Vec<SocketAddr>,
        all: bool,
    },
    Udp {
        text: String,
        addresses: Vec<SocketAddr>,
    },
    Unix {
        path: Bytes,
        mode: u32,
    },
    /// One that a service manager has passed under this name.
    Named {
        kind: Passed,
        name: String,
    },
}

impl Wanted {
    /// How many bytes there are to it.
    pub(in crate::server) fn len(&self) -> usize {
        match self {
            Wanted::Tcp {
                text, addresses, ..
            }
            | Wanted::Udp { text, addresses } => text.len() + size_of_val(&addresses[..]),
            Wanted::Unix { path, .. } => path.0.len(),
            Wanted::Named { name, .. } => name.len(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) enum Answer {
    /// The socket comes with this message.
    Socket,
    Unlistened {
        found: bool,
    },
    Refused(Refusal),
}

/// An [`io::Error`] on its way to the worker that caused it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) struct Refusal {
    kind: String,
    text: String,
}

/// The kinds of error that opening a socket gives; others arrive as `Other`.
const KINDS: [io::ErrorKind; 8] = [
    io::ErrorKind::AddrInUse,
    io::ErrorKind::AddrNotAvailable,
    io::ErrorKind::AlreadyExists,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::NotFound,
    io::ErrorKind::OutOfMemory,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::Unsupported,
];

impl From<&io::Error> for Refusal {
    fn from(error: &io::Error) -> Refusal {
        Refusal {
            kind: format!("{:?}", error.kind()),
            text: clipped(error.to_string()),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(Refusal { kind, text }: Refusal) -> io::Error {
        let known = KINDS.into_iter().find(|known| format!("{known:?}") == kind);
        io::Error::new(known.unwrap_or(io::ErrorKind::Other), text)
    }
}

/// [`StopReason`]; the public type stays without serde.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::server) enum Reason {
    Signal(i32),
    Failure,
    Restart,
    ScaleDown,
    Requested,
    Completed,
    SupervisorGone,
}

impl From<StopReason> for Reason {
    fn from(reason: StopReason) -> Reason {
        match reason {
            StopReason::Signal(signal) => Reason::Signal(signal.as_raw()),
            StopReason::Failure => Reason::Failure,
            StopReason::Restart => Reason::Restart,
            StopReason::ScaleDown => Reason::ScaleDown,
            StopReason::Requested => Reason::Requested,
            StopReason::Completed => Reason::Completed,
            StopReason::SupervisorGone => Reason::SupervisorGone,
        }
    }
}

impl From<Reason> for StopReason {
    fn from(reason: Reason) -> StopReason {
        match reason {
            Reason::Signal(raw) => StopReason::Signal(Signal::from_raw(raw)),
            Reason::Failure => StopReason::Failure,
            Reason::Restart => StopReason::Restart,
            Reason::ScaleDown => StopReason::ScaleDown,
            Reason::Requested => StopReason::Requested,
            Reason::Completed => StopReason::Completed,
            Reason::SupervisorGone => StopReason::SupervisorGone,
        }
    }
}

/// Bytes, written as such: serde would take a `Vec<u8>` for a list of numbers.
#[derive(Clone, PartialEq)]
pub(in crate::server) struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_owned()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Read)
    }
}

/// The text, cut so that it fits into a frame.
pub(in crate::server) fn clipped(mut text: String) -> String {
    const MAX: usize = 16 * 1024;
    if text.len() > MAX {
        let end = (0..=MAX)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A main context's value as it goes to every worker.
pub(in crate::server) fn encode_main<T: Serialize>(value: &T) -> Result<Arc<[u8]>, WireError> {
    let bytes = rmp_serde::to_vec_named(value)?;
    if bytes.len() > MAX_MAIN {
        return Err(WireError::MainTooLong(bytes.len()));
    }
    Ok(bytes.into())
}

/// A main context's value as it has come.
pub(in crate::server) fn decode_main<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

/// Puts a main context's value together.
#[derive(Default)]
pub(in crate::server) struct Assembly(Vec<u8>);

impl Assembly {
    /// The whole value, once its last part is here.
    pub(in crate::server) fn add(
        &mut self,
        part: &Bytes,
        last: bool,
    ) -> Result<Option<Vec<u8>>, WireError> {
        let total = self.0.len() + part.0.len();
        if total > MAX_MAIN {
            return Err(WireError::MainTooLong(total));
        }
        self.0.extend_from_slice(&part.0);
        Ok(last.then(|| std::mem::take(&mut self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), "🦀".repeat(10_000));
            let cut = clipped(text.clone());
            let kept = cut.strip_suffix('…').unwrap();
            assert!(text.starts_with(kept));
            assert!(kept.len() > 16 * 1024 - 4 && kept.len() <= 16 * 1024);
        }
        let short = "🦀".repeat(4096);
        assert_eq!(clipped(short.clone()), short);
    }

    #[test]
    fn an_error_arrives_as_what_it_was() {
        for kind in KINDS {
            let refusal = Refusal::from(&io::Error::new(kind, "cannot listen on there"));
            let error = io::Error::from(refusal);
            assert_eq!(error.kind(), kind);
            assert_eq!(error.to_string(), "cannot listen on there");
        }
        assert!(KINDS.contains(&io::ErrorKind::AddrInUse));
        let refusal = Refusal::from(&io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(io::Error::from(refusal).kind(), io::ErrorKind::Other);
    }
}
