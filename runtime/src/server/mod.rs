//! Supervised multi-worker servers.
//!
//! `supervisor` runs once, `worker` in every worker, and `line` is what they say to each other.

mod builder;
pub(crate) mod expansion;
pub(crate) mod job;
mod line;
mod options;
mod report;
mod runs;
mod signals;
mod stop;
mod supervisor;
mod worker;

pub use builder::Server;
pub use job::{ExtraFn, Outcome};
pub use options::{Isolation, OnFailure, UnknownChoice};
pub use runs::is_worker;
pub use stop::{Signal, Stop, StopReason};
#[cfg(all(test, feature = "logging"))]
pub(crate) use worker::set_thread_index;
pub use worker::{Reloads, Serving, Stopping, Worker, worker_index};
