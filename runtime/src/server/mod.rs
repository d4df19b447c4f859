//! Supervised multi-worker servers.

mod builder;
mod event_loop;
pub(crate) mod expansion;
#[cfg(feature = "process")]
mod image;
pub(crate) mod job;
mod link;
mod main_context;
mod policy;
#[cfg(feature = "process")]
mod process;
mod pulse;
mod report;
mod serving;
mod signals;
mod sockets;
mod stop;
mod stopping;
mod supervisor;
mod thread;
mod watchdog;
#[cfg(feature = "process")]
mod wire;
mod worker;
#[cfg(feature = "process")]
mod worker_process;

pub use builder::Server;
pub use job::{ExtraFn, Outcome};
pub use serving::Serving;
pub use stop::{Signal, Stop, StopReason};
pub use stopping::Stopping;
#[cfg(all(test, feature = "logging"))]
pub(crate) use worker::set_thread_index;
pub use worker::{Reloads, Worker, worker_index};

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
