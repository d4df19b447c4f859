#![doc = include_str!("../README.md")]
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
pub use context::{Always, BorrowedContext, BorrowedGuard, Context, Elapsed, Exit, Guard, Return};
pub use teardown::{Drained, drain};

#[cfg(feature = "server")]
pub use aioxide_macros::server;
#[cfg(feature = "server")]
pub use server::{
    ExtraFn, Isolation, OnFailure, Outcome, Reloads, Server, Serving, Signal, Stop, StopReason,
    Stopping, Worker, worker_index,
};

#[cfg(feature = "timer")]
pub use aioxide_macros::timer;
#[cfg(feature = "timer")]
pub use timer::{
    InvalidInterval, Missed, Overlap, Tick, TickReturn, Timer, TimerBuilder, TimerStats,
};
