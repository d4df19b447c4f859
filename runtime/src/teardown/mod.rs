//! Teardown that outlives its caller.
//!
//! A guard that is dropped cannot await: its teardown is *detached*, that is, it goes on as a task of the
//! runtime that the context was entered on, inside the tracing span current at enter. Nobody is there to
//! take its error, so what goes wrong is logged with `tracing::error!`, passed to the hook installed with
//! [`on_error`], and counted in [`stats`]. [`drain`] waits for detached teardowns before a runtime ends.
//!
//! **Order.** A detached teardown waits for the pending ones of contexts that were *entered after* its own
//! and dropped before it by the same task (outside tasks: the same thread): inner before outer. What it
//! waits for is settled when it is dropped. Hence waits form no circle, and a stuck teardown delays only
//! contexts entered before it. Members of one [`group`](crate::group) never wait for each other. Fields of a
//! struct and elements of a `Vec` drop first-entered first and are therefore not ordered;
//! [`ExitStack`](crate::ExitStack) is for that.

mod alarm;
mod detached;
mod drain;
mod ledger;
mod order;
mod place;
mod report;
mod settle;
mod stats;

pub use drain::{Drained, drain};
pub use report::{TeardownError, on_error};
pub use settle::settle;
pub use stats::{Stats, stats};

pub(crate) use detached::{Origin, detach, poll_once};
pub(crate) use order::{Wait, entered, is_later_pending};
pub(crate) use place::{InPlace, InnerPlace, Place};
pub(crate) use report::{report, report_panic};
