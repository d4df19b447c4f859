//! The comparisons. In each, a round measures all of its rows, in an order that changes from round to round.

mod context;
mod echo;
mod lifecycle;
mod memory;
mod restart;
mod timers;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::python::Python;
use crate::table::Table;

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

pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// For which a server is under load in a round; timers run four times as long.
    pub(crate) time: Duration,
    pub(crate) python: Option<Python>,
}

impl Plan {
    pub(crate) fn measure(&self, part: Part) -> Result<Vec<Table>> {
        match part {
            Part::Context => context::measure(self),
            Part::Echo => echo::measure(self),
            Part::Lifecycle => lifecycle::measure(self),
            Part::Restart => restart::measure(self),
            Part::Memory => memory::measure(self),
            Part::Timers => timers::measure(self),
        }
    }

    /// The rounds of what takes long.
    fn few_rounds(&self) -> usize {
        self.rounds.div_ceil(2)
    }
}

/// Begins at another one each time.
fn in_turn<T>(all: &mut [T], turn: usize) -> impl Iterator<Item = &mut T> {
    let start = turn % all.len().max(1);
    let (last, first) = all.split_at_mut(start);
    first.iter_mut().chain(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let orders: [Vec<u8>; 3] =
            [0, 1, 5].map(|turn| in_turn(&mut [0, 1, 2], turn).map(|n| *n).collect());
        assert_eq!(orders, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1]]);
        assert_eq!(in_turn::<u8>(&mut [], 1).count(), 0);
    }
}
