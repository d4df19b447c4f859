//! When ticks are due and what becomes of each due time: arithmetic and decisions, without a clock.
//!
//! Times are nanoseconds since the timer was started, which lasts for 584 years; what lies beyond that
//! is [`NEVER`]. The grid is kept by adding whole intervals to whole nanoseconds, so it doesn't drift.

mod admission;
mod by_clock;
mod due;
mod grid;
mod irregular;
mod machine;
#[cfg(test)]
mod model;
mod policy;
#[cfg(test)]
mod reference;

pub(super) use due::{Due, NEVER, Nanos};
pub(super) use irregular::{Dues, Irregular};
pub(super) use machine::{Action, Cadence, Dropped, Rules, STARVED, Schedule};
pub use policy::{Missed, Overlap};
