//! What those who look into a running server may know of the policy.

use std::time::Duration;

use super::event::WorkerId;
use super::standing;
use super::state::*;
use crate::server::line::Role;

impl standing::Phase {
    /// In one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Going(_) => "going",
            Self::Stopping(_) => "stopping",
            Self::Ended => "ended",
        }
    }

    /// Whether a stop has been asked for, or has begun.
    pub(crate) fn is_going(self) -> bool {
        !matches!(self, Self::Starting | Self::Serving)
    }
}

impl Policy {
    /// How many workers are wanted, and how many may be.
    pub(crate) fn wanted(&self) -> (usize, usize) {
        (self.wanted, self.config.max_workers.max(1))
    }

    /// What is being restarted: one role or all, how many have yet to have their turn, and how many predecessors have
    /// yet to go.
    pub(crate) fn rolling(&self) -> Option<(Option<Role>, usize, usize)> {
        let roll = self.roll.as_ref()?;
        let unfinished = usize::from(!matches!(roll.stage, Stage::Next));
        Some((
            roll.only,
            roll.remaining.len() + unfinished,
            roll.draining.len(),
        ))
    }

    pub(crate) fn phase_name(&self, id: WorkerId) -> &'static str {
        match self.workers.get(&id).map(|worker| worker.phase) {
            Some(Phase::Starting { .. }) => "starting",
            Some(Phase::Ready) => "ready",
            Some(Phase::Draining { .. }) => "draining",
            Some(Phase::Killed { .. }) | None => "killed",
        }
    }

    /// The roles that there are to be. Whether each needs nobody any more, and in how long it is filled again.
    pub(crate) fn roles(&self, now: Duration) -> Vec<(Role, bool, Option<Duration>)> {
        let slots = self.slots[..self.target].iter().enumerate();
        let slots = slots.map(|(slot, place)| (Role::Slot(slot), place));
        let extras = self.extras.iter().enumerate();
        let extras = extras.map(|(extra, place)| (Role::Extra(extra), place));
        let seen = slots.chain(extras).map(|(role, place)| {
            let retry = place.spawn_at().map(|at| at.saturating_sub(now));
            (role, place.out, retry)
        });
        seen.collect()
    }
}

#[cfg(test)]
mod tests;
