//! What runs in every worker.

pub(super) mod event_loop;
pub(super) mod handle;
#[cfg(feature = "process")]
pub(super) mod process;
mod serving;
pub(super) mod stopping;

#[cfg(all(test, feature = "logging"))]
pub(crate) use handle::set_thread_index;
pub use handle::{Reloads, Worker, worker_index};
pub use serving::Serving;
pub use stopping::Stopping;
