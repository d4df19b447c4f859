//! What this library does in a process, counted for those who look into a running server.
//!
//! Whoever wants to know makes a [`Census`] and has threads join it. Until then counting costs one load of a flag, and what
//! a thread counts afterwards it shares with no other thread that counts.

mod contexts;
mod counting;
mod happenings;
mod lock;
mod member;
#[cfg(feature = "metrics")]
mod own;
#[cfg(feature = "metrics")]
mod recorder;
mod tasks;

pub(crate) use contexts::{Open, Seen};
#[cfg(feature = "scope")]
pub(crate) use counting::begin_at;
#[cfg(feature = "timer")]
pub(crate) use counting::is_taken;
pub(crate) use counting::{begin, entered, failed, happened};
pub(crate) use member::Census;
#[cfg(feature = "metrics")]
pub(crate) use own::OwnValue;
#[cfg(feature = "metrics")]
pub(crate) use recorder::{helps, install};
pub(crate) use tasks::{Kind, Task};
