//! aioxide: async context managers, supervised servers and periodic tasks for tokio.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod context;
pub mod teardown;

#[cfg(feature = "server")]
mod server;
#[cfg(feature = "timer")]
mod timer;

#[doc(hidden)]
pub mod __private;

pub use aioxide_macros::actxmgr;
pub use context::{
    Always, BorrowedContext, BorrowedGuard, Context, Elapsed, Exit, ExitErrors, ExitStack, Guard,
    Return, group,
};
pub use teardown::{Drained, drain};

#[cfg(feature = "server")]
pub use aioxide_macros::server;
#[cfg(feature = "server")]
pub use server::{Signal, Stop, StopReason};

#[cfg(feature = "timer")]
pub use aioxide_macros::timer;
