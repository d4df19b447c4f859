//! Supervised multi-worker servers.
//!
//! `supervisor` runs once, `worker` in every worker, and `line` is what they say to each other.

mod addresses;
mod balance;
mod builder;
pub(crate) mod expansion;
#[cfg(feature = "http")]
pub mod http;
pub(crate) mod job;
mod line;
#[cfg(feature = "monitor")]
mod monitor;
mod options;
mod recycle;
mod registry;
mod report;
mod run;
mod running;
mod signals;
mod stop;
mod supervisor;
mod watcher;
mod worker;

pub use addresses::Addresses;
pub use builder::Server;
pub use job::{ExtraFn, Outcome};
#[cfg(feature = "monitor")]
pub use monitor::Door;
pub use options::{Isolation, OnFailure, UnknownChoice, Upgrade};
pub use recycle::Recycle;
pub use registry::is_worker;
pub use running::{NotReady, Running};
pub use stop::{Signal, Stop, StopReason};
#[cfg(feature = "monitor")]
pub use worker::CommandOutput;
#[cfg(all(test, feature = "logging"))]
pub(crate) use worker::set_thread_index;
pub use worker::{Going, Reloads, Serving, Stopping, Tasks, Worker, worker_index};
