//! What runs in every worker.

mod admission;
#[cfg(feature = "monitor")]
mod answering;
#[cfg(feature = "monitor")]
mod commands;
#[cfg(feature = "monitor")]
mod connections;
#[cfg(feature = "process")]
mod control;
pub(super) mod event_loop;
mod failures;
mod going;
mod handing;
mod handle;
mod index;
mod listeners;
#[cfg(not(feature = "scope"))]
mod no_scope;
#[cfg(feature = "scope")]
mod own_scope;
#[cfg(feature = "process")]
pub(super) mod process;
mod reloads;
mod requests;
#[cfg(feature = "monitor")]
mod rows;
mod serving;
mod shared;
#[cfg(feature = "timer")]
mod single;
#[cfg(feature = "process")]
pub(super) mod started;
mod stopping;
mod tasks;
#[cfg(feature = "monitor")]
mod watched;

#[cfg(feature = "monitor")]
pub use commands::CommandOutput;
pub use going::Going;
pub use handle::Worker;
pub(super) use index::is_on_worker_thread;
#[cfg(all(test, feature = "logging"))]
pub(crate) use index::set_thread_index;
pub use index::worker_index;
pub use reloads::Reloads;
#[cfg(feature = "http")]
pub(super) use requests::Requests;
pub use serving::Serving;
pub use stopping::Stopping;
pub use tasks::Tasks;
