//! Teardown that outlives its caller.
//!
//! A guard that is dropped cannot await: its teardown is *detached*, that is, it goes on as a task of the
//! runtime that the context was entered on, inside the tracing span current at enter. Nobody is there to
//! take its error, so what goes wrong is logged with `tracing::error!`, passed to the hook installed with
//! [`on_error`], and counted in [`stats`]. [`drain`] waits for detached teardowns before a runtime ends.
//!
//! That runtime is known by the task, which never changes it. A task that blocks on *another* runtime, in
//! [`block_in_place`](tokio::task::block_in_place) or [`spawn_blocking`](tokio::task::spawn_blocking), is still the same
//! task: a context that it enters in that `block_on` itself may be torn down on either of the two runtimes, and so may those
//! that it enters later on. Spawn a task on the other runtime, and enter contexts in that: theirs is always the right one.
//!
//! # Order
//!
//! Teardowns are ordered within *places*, which nest:
//!
//! - the task; outside of one, the thread;
//! - the body of a context's `with`, each member of a [`group`](crate::group), the members of an
//!   [`ExitStack`](crate::ExitStack) (one place for the stack);
//! - a context's own function, in setup and in teardown, wherever it is polled;
//! - a task of a [`Scope`](crate::Scope), a tick of a timer, a handler of `Worker::serve`: inside the place that started
//!   it.
//!
//! A context belongs to the place in which it was entered, for good, wherever its guard is moved. Tasks of a
//! `LocalSet` or of a nested runtime have places of their own, also when they are polled or dropped within another.
//!
//! 1. **What is awaited runs now.** `exit()`, `exit_as(Ok(..))` and the end of a `with` or a group wait only for
//!    detached teardowns of what was entered inside them. An `exit()` that overtakes a pending teardown of its own
//!    place says so at DEBUG.
//! 2. **What is dropped is torn down inner first.** A detached teardown waits for those inside it, and for each that
//!    was dropped before it and has, in its own place, an ancestor (or itself) that was entered after it. One that had
//!    begun before it was dropped goes on at once: others may wait for a lock that it holds.
//! 3. **Errors settle.** `exit_as(Err(..))`, and `exit_with` of anything but success, first wait for what is pending in
//!    the place that they are awaited in, as [`settle`] does.
//! 4. A context is over only when its function has ended, and all is torn down that was entered inside it and had been
//!    dropped by then.
//!
//! Waits form no circle. A stuck teardown delays only what contains it and what its own place entered before it. Fields
//! of a struct and elements of a `Vec` drop first-entered first and are therefore not ordered;
//! [`ExitStack`](crate::ExitStack) is for that.

mod alarm;
mod detached;
mod drain;
mod home;
mod ledger;
mod order;
mod paths;
mod place;
mod report;
mod settle;
mod stats;

pub use drain::{Drained, drain};
pub use report::{TeardownError, on_error};
pub use settle::settle;
pub use stats::{Stats, stats};

pub(crate) use detached::{Origin, detach, poll_once};
pub(crate) use home::Home;
#[cfg(feature = "monitor")]
pub(crate) use order::pending;
pub(crate) use order::{Wait, entered, is_later_pending};
pub(crate) use place::{InPlace, InnerPlace, Node, Place, reach};
pub(crate) use report::{report, report_panic};
