//! The comparisons. In each, a round measures all of its rows, in an order that changes from round to round.

mod blocked;
mod calendar;
mod context;
mod echo;
mod http;
mod lifecycle;
mod memory;
mod monitor;
mod plan;
mod reload;
mod restart;
mod scope;
mod threads;
mod timers;
mod timing;
mod under_load;

use anyhow::Result;
use clap::ValueEnum;

use crate::table::Table;

pub(crate) use plan::Plan;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Contexts entered and left, alone and 1,000 together.
    Context,
    /// Contexts entered and left on one thread and on two.
    Threads,
    /// 1,000 tasks spawned and waited for.
    Scope,
    /// Echo: CPU per request, requests per second, latencies.
    Echo,
    /// HTTP: CPU per request, requests per second, latencies.
    Http,
    /// Reloads under load by HTTP, and what they lose.
    Reload,
    /// New connections while a worker is blocked, crashes, or is full.
    Blocked,
    /// What it costs that a server may be looked into, and is.
    Monitor,
    /// Start to ready, SIGTERM to exit.
    Lifecycle,
    /// Rolling restarts under load.
    Restart,
    /// What workers hold.
    Memory,
    /// CPU, memory and drift of timers.
    Timers,
    /// Timers by the calendar.
    Calendar,
}

impl Part {
    pub(crate) fn measure(self, plan: &Plan) -> Result<Vec<Table>> {
        match self {
            Part::Context => context::measure(plan),
            Part::Threads => threads::measure(plan),
            Part::Scope => scope::measure(plan),
            Part::Echo => echo::measure(plan),
            Part::Http => http::measure(plan),
            Part::Reload => reload::measure(plan),
            Part::Blocked => blocked::measure(plan),
            Part::Monitor => monitor::measure(plan),
            Part::Lifecycle => lifecycle::measure(plan),
            Part::Restart => restart::measure(plan),
            Part::Memory => memory::measure(plan),
            Part::Timers => timers::measure(plan),
            Part::Calendar => calendar::measure(plan),
        }
    }
}
