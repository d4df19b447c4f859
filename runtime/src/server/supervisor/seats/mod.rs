//! Where workers run.

pub(in crate::server) mod main_context;
#[cfg(feature = "process")]
pub(in crate::server) mod process;
pub(in crate::server) mod thread;
