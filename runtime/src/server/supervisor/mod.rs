//! What runs once in a server: it starts the workers, watches over them, and owns the listening sockets.

pub(super) mod driver;
#[cfg(feature = "process")]
pub(super) mod image;
pub(super) mod policy;
mod pulse;
pub(super) mod seats;
pub(super) mod signals;
mod sockets;
mod watchdog;
