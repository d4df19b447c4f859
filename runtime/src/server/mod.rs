//! Supervised multi-worker servers.

mod builder;
mod choice;
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
pub use choice::{Isolation, OnFailure, UnknownChoice};
pub use job::{ExtraFn, Outcome};
pub use serving::Serving;
pub use stop::{Signal, Stop, StopReason};
pub use stopping::Stopping;
#[cfg(all(test, feature = "logging"))]
pub(crate) use worker::set_thread_index;
pub use worker::{Reloads, Worker, worker_index};
