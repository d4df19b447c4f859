//! The replacement of workers that have reached a limit: single rolls, one after the other.

use std::time::Duration;

use super::event::*;
use super::state::*;
use crate::server::line::Role;

impl Policy {
    /// A worker has reached a limit. The first one counts.
    pub(super) fn worn(&mut self, id: WorkerId, worn: Worn) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.worn.get_or_insert(worn);
        }
    }

    /// When a worker is to be recycled next, if nothing keeps it.
    pub(super) fn recycling_due(&self) -> Option<Duration> {
        let idle = self.roll.is_none() && self.adding.is_none() && self.going.is_none();
        let idle = idle && self.upgrade == Upgrade::None;
        if self.state != State::Serving || !idle {
            return None;
        }
        let due = (0..self.target).filter_map(|slot| self.recycle_at(slot));
        due.map(|(at, _)| at).min()
    }

    /// The slot whose worker has been due for longest.
    pub(super) fn first_worn(&self, now: Duration) -> Option<(usize, Worn)> {
        let due = (0..self.target).filter_map(|slot| {
            let (at, worn) = self.recycle_at(slot)?;
            (at <= now).then_some((at, slot, worn))
        });
        due.min_by_key(|(at, slot, _)| (*at, *slot))
            .map(|(_, slot, worn)| (slot, worn))
    }

    fn recycle_at(&self, slot: usize) -> Option<(Duration, Worn)> {
        if self.config.run_to_completion {
            return None;
        }
        let place = &self.slots[slot];
        let worker = self.workers.get(&place.current?)?;
        if worker.phase != Phase::Ready {
            return None;
        }
        let ready_at = worker.ready_at?;
        let settled = ready_at.saturating_add(self.config.recycle_settled);
        let time = worker.recycle_at.map(|at| {
            let at = at.max(settled);
            (at, Worn::Time(at.saturating_sub(ready_at)))
        });
        let worn = worker.worn.map(|worn| (settled, worn));
        let (at, worn) = time.into_iter().chain(worn).min_by_key(|(at, _)| *at)?;
        Some((at.max(place.recycle_not_before.unwrap_or_default()), worn))
    }

    /// The successor failed to start: the worker stays, and it is tried again after a backoff.
    pub(super) fn put_off_recycling(&mut self, now: Duration, role: Role) {
        let rule = self.restart_rule();
        let place = self.place(role);
        let delay = rule.delay(place.recycle_streak);
        place.recycle_streak = place.recycle_streak.saturating_add(1);
        place.recycle_not_before = Some(now.saturating_add(delay));
    }
}

#[cfg(test)]
mod tests;
