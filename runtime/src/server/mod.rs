//! Supervised multi-worker servers.

#[cfg(feature = "process")]
#[allow(dead_code)]
mod image;
#[allow(dead_code)]
mod sockets;
mod stop;
#[cfg(feature = "process")]
#[allow(dead_code, unused_imports)]
mod wire;

pub use stop::{Signal, Stop, StopReason};
