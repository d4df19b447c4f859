//! Supervised multi-worker servers.

#[allow(dead_code)]
mod policy;
mod stop;

pub use stop::{Signal, Stop, StopReason};

/// What a worker of a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A thread of the server's process.
    #[default]
    Thread,
    /// A process of its own: the server's executable, started again.
    Process,
}

/// What happens when a worker fails that was ready: it errs, panics, dies, hangs, or returns
/// unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The server stops, with exit code 1.
    #[default]
    Shutdown,
    /// A successor is started after a backoff. One that fails too often stops the server, with exit
    /// code 4.
    Restart,
    /// The others go on without it. When none is left the server stops, with exit code 1.
    Ignore,
}
