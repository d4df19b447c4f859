//! Supervised multi-worker servers.

mod stop;

pub use stop::{Signal, Stop, StopReason};
