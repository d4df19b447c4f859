//! Supervised multi-worker servers.
//!
//! `supervisor` runs once, `worker` in every worker, and `line` is what they say to each other.

mod addresses;
mod builder;
pub(crate) mod expansion;
pub(crate) mod job;
mod line;
mod options;
mod recycle;
mod registry;
mod report;
mod run;
mod running;
mod signals;
mod stop;
mod supervisor;
mod worker;

pub use addresses::Addresses;
pub use builder::Server;
pub use job::{ExtraFn, Outcome};
pub use options::{Isolation, OnFailure, UnknownChoice};
pub use recycle::Recycle;
pub use registry::is_worker;
pub use running::{NotReady, Running};
pub use stop::{Signal, Stop, StopReason};
#[cfg(all(test, feature = "logging"))]
pub(crate) use worker::set_thread_index;
pub use worker::{Going, Reloads, Serving, Stopping, Tasks, Worker, worker_index};
