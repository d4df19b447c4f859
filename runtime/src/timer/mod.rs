//! Periodic tasks on a grid.

mod builder;
#[cfg(feature = "calendar")]
mod calendar;
mod crowd;
#[cfg(feature = "monitor")]
mod details;
mod driver;
mod failure;
mod handle;
mod host;
mod inside;
pub mod lease;
#[cfg(test)]
mod leased;
pub mod private;
mod running;
mod schedule;
mod shared;
pub(crate) mod single;
mod tick;
mod ticks;
mod verdict;
mod wall;
#[cfg(feature = "monitor")]
pub(crate) mod watched;
mod watching;

pub use builder::TimerBuilder;
#[cfg(feature = "calendar")]
pub use calendar::InvalidCalendar;
pub use failure::TickError;
pub use handle::{InvalidInterval, Timer, TimerStats};
pub use schedule::{Missed, Overlap};
pub use single::Delivery;
pub use tick::{Tick, TickReturn};
