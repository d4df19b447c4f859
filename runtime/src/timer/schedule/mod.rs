//! When ticks are due and what becomes of each due time: arithmetic and decisions, without a clock.
//!
//! Times are nanoseconds since the timer was started, which lasts for 584 years; what lies beyond that
//! is [`NEVER`]. The grid is kept by adding whole intervals to whole nanoseconds, so it doesn't drift.

mod machine;

pub(super) use machine::*;
pub use machine::{Missed, Overlap};
