//! Periodic tasks on a grid.

mod builder;
mod crowd;
mod driver;
mod failure;
mod handle;
mod inside;
pub mod lease;
pub mod private;
mod running;
mod schedule;
mod shared;
mod tick;
mod ticks;

pub use builder::TimerBuilder;
pub use failure::TickError;
pub use handle::{InvalidInterval, Timer, TimerStats};
pub use schedule::{Missed, Overlap};
pub use tick::{Tick, TickReturn};
