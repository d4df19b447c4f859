//! The server's listening sockets. They belong to the supervisor, so that they outlive every worker.
//!
//! A slot has one `SO_REUSEPORT` socket per address; the kernel spreads connections over them. A slot
//! keeps its sockets across its workers: the backlog waits for the successor, and a worker that takes over
//! shares them with the one it replaces. Where the kernel doesn't balance (not Linux), all slots share one
//! socket.
//!
//! `table` decides and makes no system call. `kernel` makes them, with what `inet` and `unix` know of their families.
//! `passed` takes what systemd has opened.

mod calls;
mod inet;
mod kernel;
mod name;
#[cfg(target_os = "linux")]
mod passed;
mod received;
mod system;
mod table;
#[cfg(test)]
mod tests;
mod unix;

pub(super) use kernel::Kernel;
pub(crate) use received::Received;

#[cfg(feature = "process")]
pub(super) use name::{Kind, Name};
#[cfg(feature = "monitor")]
pub(super) use table::Holding;
#[cfg(feature = "process")]
pub(super) use table::Inherited;
#[cfg(feature = "process")]
pub(super) use table::{Estate, Handed, Pinned};
pub(super) use table::{Offered, Order};

pub(super) type Sockets = table::Table<Kernel>;

/// The sockets that a service manager has passed to this process. To be called once, before anything else opens a
/// descriptor.
pub(crate) fn received() -> Received {
    #[cfg(target_os = "linux")]
    return passed::received();
    #[cfg(not(target_os = "linux"))]
    Received::default()
}
