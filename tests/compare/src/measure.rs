//! The comparisons. In each, a round measures all of its rows, in an order that changes from round to round.

mod context;
mod echo;
mod lifecycle;
mod memory;
mod plan;
mod restart;
mod timers;

use anyhow::Result;
use clap::ValueEnum;

use crate::table::Table;

pub(crate) use plan::Plan;
pub(crate) use timers::Timers;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Contexts entered and left, alone and 1,000 together.
    Context,
    /// Echo: CPU per request, requests per second, latencies.
    Echo,
    /// Start to ready, SIGTERM to exit.
    Lifecycle,
    /// Rolling restarts under load.
    Restart,
    /// What workers hold.
    Memory,
    /// CPU, memory and drift of timers.
    Timers,
}

impl Part {
    pub(crate) fn measure(self, plan: &Plan) -> Result<Vec<Table>> {
        match self {
            Part::Context => context::measure(plan),
            Part::Echo => echo::measure(plan),
            Part::Lifecycle => lifecycle::measure(plan),
            Part::Restart => restart::measure(plan),
            Part::Memory => memory::measure(plan),
            Part::Timers => timers::measure(plan),
        }
    }
}
