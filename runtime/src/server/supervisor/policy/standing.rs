//! How the server stands, for those who are told of it.

use std::time::Duration;

use super::state::{self, Policy, Roll, Stage, State};
use crate::server::line::Role;
use crate::server::stop::StopReason;

/// How the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    /// How many workers are ready, and how many there are to be.
    pub(crate) ready: usize,
    pub(crate) wanted: usize,
    pub(crate) roll: Option<Rolled>,
    /// A rolling restart of all workers waits or goes on.
    pub(crate) reloading: bool,
    /// By when what goes on now has come to its end, or is given up.
    pub(crate) until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Until all workers and extras have been ready.
    Starting,
    Serving,
    /// Until its delay is over, with what made it go.
    Going(StopReason),
    /// With what made it stop.
    Stopping(StopReason),
    Ended,
}

/// How far a rolling restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rolled {
    /// How many workers have a successor that is ready.
    pub(crate) replaced: usize,
    pub(crate) of: usize,
}

impl Policy {
    pub(crate) fn phase(&self) -> Phase {
        match (self.state, self.going) {
            (State::New | State::Entering | State::Starting, _) => Phase::Starting,
            (State::Serving, Some(going)) => Phase::Going(going.reason),
            (State::Serving, None) => Phase::Serving,
            (State::Stopping(stopping), _) => Phase::Stopping(stopping.reason),
            (State::Forced { signal, .. }, _) => {
                Phase::Stopping(signal.map_or(StopReason::Failure, StopReason::Signal))
            }
            (State::Done, _) => Phase::Ended,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let slots = self.slots.iter().take(self.target);
        Standing {
            phase: self.phase(),
            ready: slots.filter(|slot| self.is_ready(slot.current)).count(),
            wanted: self.target,
            roll: self.roll.as_ref().map(|roll| self.rolled(roll)),
            reloading: self.is_before_stop()
                && (self.reload || self.roll.as_ref().is_some_and(|roll| roll.only.is_none())),
            until: self.hard_end().or_else(|| self.until()),
        }
    }

    fn rolled(&self, roll: &Roll) -> Rolled {
        let of = if roll.only.is_none() { self.target } else { 1 };
        let is_slot = |role: &&Role| matches!(role, Role::Slot(_));
        let starting = match roll.stage {
            Stage::Starting(id) => {
                let worker = self.workers.get(&id);
                worker.is_some_and(|worker| is_slot(&&worker.role))
            }
            Stage::Next | Stage::Leaving(_) => false,
        };
        let left = roll.remaining.iter().filter(is_slot).count() + usize::from(starting);
        Rolled {
            replaced: of.saturating_sub(left),
            of,
        }
    }

    /// The last deadline of a worker that starts or leaves.
    fn until(&self) -> Option<Duration> {
        let workers = self
            .workers
            .values()
            .filter_map(|worker| match worker.phase {
                state::Phase::Starting { by, .. }
                | state::Phase::Draining { by }
                | state::Phase::Killed { by, .. } => Some(by),
                state::Phase::Ready => None,
            });
        workers.max()
    }
}

#[cfg(test)]
mod tests;
