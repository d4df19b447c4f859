//! What a lease is asked with and answers: owner, token, progress, what is held.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Who asks for a lease: one timer of one process.
///
/// Two owners are the same when their texts are. Whoever asks again under the same owner renews what it holds, so a
/// text must not be used by two that are to exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The owner of this text.
    pub fn new(text: impl Into<Arc<str>>) -> Owner {
        Owner(text.into())
    }

    /// One that nobody else is: the host's name, the process's id and a random number.
    pub fn unique() -> Owner {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let host = host.as_deref().map_or("localhost", str::trim);
        let (process, random) = (std::process::id(), fastrand::u64(..));
        Owner::new(format!("{host}/{process}/{random:016x}"))
    }

    /// Its text, which stores keep and show.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number that grows with every holder of a lease: a fencing token.
///
/// Whatever the work writes to can refuse a holder that has lost its lease without knowing: it remembers the greatest
/// token that it has seen, and refuses smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The token of this number.
    pub const fn new(number: u64) -> Token {
        Token(number)
    }

    /// Its number. PostgreSQL's and etcd's are never above `i64::MAX`.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far the work of a due time is. What is done is further than what is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// It was started, and may be over or not.
    Started,
    /// It is over.
    Done,
}

/// A lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The newest token. It stays the same while the lease is renewed.
    pub token: Token,
    /// How long the lease is held unless it is renewed, counted from before it was asked for. [`Duration::MAX`] for one
    /// that doesn't expire.
    pub left: Duration,
    /// The furthest that was recorded, by this or an earlier holder: the newest due time, and whether it is done.
    pub last: Option<(SystemTime, Progress)>,
}
