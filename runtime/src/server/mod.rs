//! Supervised multi-worker servers.

#[allow(dead_code)]
mod sockets;
mod stop;

pub use stop::{Signal, Stop, StopReason};
