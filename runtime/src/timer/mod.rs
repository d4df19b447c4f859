//! Periodic tasks on a grid.

mod driver;
mod handle;
pub mod private;
mod schedule;
mod tick;
mod ticks;

pub use handle::{InvalidInterval, Timer, TimerBuilder, TimerStats};
pub use schedule::{Missed, Overlap};
pub use tick::{Tick, TickReturn};
