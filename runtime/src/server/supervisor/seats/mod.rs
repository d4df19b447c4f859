//! Where workers run. Nothing else of the supervisor tells threads from processes.

#[cfg(feature = "process")]
mod allowance;
#[cfg(feature = "process")]
pub(crate) mod child;
#[cfg(feature = "process")]
mod process;
mod seat;
mod thread;

#[cfg(feature = "process")]
pub(crate) use process::Processes;
pub(crate) use seat::Seats;
pub(super) use seat::{Order, Seat};
pub(super) use thread::{Leaving, Thread};
