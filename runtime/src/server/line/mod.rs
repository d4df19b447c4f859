//! What a worker and its supervisor say to each other. It knows neither of the two, nor whether there is a thread or
//! a process at the other end.
//!
//! A worker speaks through its [`Line`] and finds what it is told in [`Told`]. Between processes, `wire` carries both.

mod end;
mod identity;
mod loans;
mod message;
#[cfg(feature = "monitor")]
mod query;
#[cfg(feature = "process")]
pub(super) mod role_variable;
#[cfg(feature = "timer")]
mod single;
mod told;
mod turning;
#[cfg(feature = "process")]
pub(super) mod wire;

pub(super) use end::Line;
pub(super) use identity::{Identity, Role, comm};
pub(super) use loans::Loan;
pub(super) use message::{Answer, Ended, Failure, Message, Passed, Request};
#[cfg(feature = "metrics")]
pub(super) use query::Own;
#[cfg(feature = "monitor")]
pub(super) use query::{
    CommandRow, Connection, ContextRow, Count, CountKey, EndedRow, Figures, Happened,
    LONGEST_ANSWER, Query, Ran, Rows, Sort, TaskRow, Tasks, TimerAct, TimerRow,
};
#[cfg(feature = "timer")]
pub(super) use single::{Reached, Reply, SingleAnswer, SingleCall};
pub(super) use told::Told;
pub(super) use turning::Sleeper;
