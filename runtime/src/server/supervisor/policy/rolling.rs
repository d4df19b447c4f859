//! The rolling restart, and the change of the number of workers, which waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::*;
use super::state::*;
use crate::server::line::Role;
use crate::server::stop::StopReason;

impl Policy {
    /// Takes the roll one step further. Whether there was one to take.
    pub(super) fn advance_roll(&mut self, now: Duration) -> bool {
        let Some(roll) = &mut self.roll else {
            return false;
        };
        let workers = &self.workers;
        roll.draining.retain(|id| workers.contains_key(id));
        match roll.stage {
            Stage::Starting(_) => false,
            Stage::Leaving(extra) => {
                self.extras[extra].current.is_none() && self.succeed(now, Role::Extra(extra))
            }
            Stage::Next if roll.remaining.is_empty() && roll.draining.is_empty() => {
                if roll.only.is_none() {
                    self.image = roll.image;
                    self.given_up = false;
                }
                self.roll = None;
                self.push(Action::Report(Report::RollDone));
                true
            }
            Stage::Next => match self.next_to_roll() {
                Some(role) if self.place_ref(role).completed => true,
                Some(role) => self.succeed(now, role),
                None => false,
            },
        }
    }

    /// Takes out of those that remain the next one that may have its turn now.
    fn next_to_roll(&mut self) -> Option<Role> {
        let roll = self.roll.as_mut()?;
        let slots = &self.slots;
        // One that still has an old worker waits for its end; extras wait for the workers.
        let has_its_turn = |role: &Role| match *role {
            Role::Slot(slot) => slots[slot].leaving.is_empty(),
            Role::Extra(_) => {
                roll.draining.is_empty() && matches!(roll.remaining[0], Role::Extra(_))
            }
        };
        let next = match roll.draining.len() < self.config.roll_overlap.max(1) {
            true => roll.remaining.iter().position(has_its_turn)?,
            false => return None,
        };
        roll.remaining.remove(next)
    }

    /// Starts the successor, or has the predecessor go first.
    fn succeed(&mut self, now: Duration, role: Role) -> bool {
        let Some(image) = self.roll.as_ref().map(|roll| roll.image) else {
            return false;
        };
        let stage = match (role, self.place_ref(role).current) {
            (Role::Slot(slot), Some(_)) => {
                let successor = self.spawn(now, role, image);
                self.slots[slot].next = Some(successor);
                Stage::Starting(successor)
            }
            (Role::Extra(extra), Some(current)) => {
                let by = now.saturating_add(self.config.shutdown_timeout);
                self.stop_worker(current, StopReason::Restart, by);
                Stage::Leaving(extra)
            }
            (_, None) => {
                let successor = self.spawn_current(now, role, image);
                match self.is_ready(Some(successor)) {
                    true => Stage::Next,
                    false => Stage::Starting(successor),
                }
            }
        };
        self.set_stage(stage);
        true
    }

    /// Whether the roll waits for this extra to be gone, to start it again itself.
    pub(super) fn is_rolled_away(&self, role: Role) -> bool {
        let stage = self.roll.as_ref().map(|roll| roll.stage);
        matches!((stage, role), (Some(Stage::Leaving(rolled)), Role::Extra(extra)) if rolled == extra)
    }

    /// Begins what waited for the roll to end. Whether there was something.
    pub(super) fn begin_waiting(&mut self, now: Duration) -> bool {
        if self.roll.is_some() || self.going.is_some() || self.upgrade == Upgrade::Running {
            return false;
        }
        if self.wanted < self.target || self.wanted > self.target && self.adding.is_none() {
            self.scale(now);
            return true;
        }
        if self.adding.is_some() {
            return false;
        }
        if self.upgrade == Upgrade::Waiting {
            self.upgrade = Upgrade::Running;
            self.push(Action::Upgrade);
            return true;
        }
        let mut recycles = false;
        let (only, remaining, image) = if self.reload {
            self.reload = false;
            self.last_image.0 += 1;
            let slots = (0..self.target).map(Role::Slot);
            let extras = (0..self.extras.len()).map(Role::Extra);
            // All that are to run are among these, those that are vacant too.
            for role in std::mem::take(&mut self.restarts) {
                if self.place_of(role).is_none_or(|place| place.completed) {
                    self.push(Action::Report(Report::NotRestarted(role)));
                }
            }
            (None, slots.chain(extras).collect(), self.last_image)
        } else {
            let asked = (0..self.target).find(|slot| self.is_asked(*slot));
            let asked = asked.map(Role::Slot);
            let role = match asked.or_else(|| self.next_restart()) {
                Some(role) => role,
                None => {
                    let Some((slot, worn)) = self.first_worn(now) else {
                        return false;
                    };
                    recycles = true;
                    let role = Role::Slot(slot);
                    self.push(Action::Report(Report::Recycling { role, worn }));
                    role
                }
            };
            let image = self.place_ref(role).image;
            (Some(role), VecDeque::from([role]), image)
        };
        self.push(Action::Report(Report::RollStarted {
            slots: if only.is_none() { self.target } else { 1 },
            only,
            image,
        }));
        self.roll = Some(Roll {
            image,
            only,
            recycles,
            remaining,
            stage: Stage::Next,
            draining: Vec::new(),
        });
        true
    }

    /// The next one of those that are to be restarted and still have a place to fill. Whoever has asked for another one
    /// is told.
    fn next_restart(&mut self) -> Option<Role> {
        loop {
            let role = self.restarts.pop_first()?;
            if self.may_be_restarted(role) {
                return Some(role);
            }
            self.push(Action::Report(Report::NotRestarted(role)));
        }
    }

    /// Whether there is such a place, and it isn't vacant for good.
    pub(super) fn may_be_restarted(&self, role: Role) -> bool {
        self.place_of(role).is_some_and(|place| !place.out)
    }

    /// The place of a role, if there is to be one.
    fn place_of(&self, role: Role) -> Option<&Place> {
        match role {
            Role::Slot(slot) => self.slots[..self.target].get(slot),
            Role::Extra(extra) => self.extras.get(extra),
        }
    }

    pub(super) fn is_asked(&self, slot: usize) -> bool {
        let worker = self.slots[slot]
            .current
            .and_then(|id| self.workers.get(&id));
        worker.is_some_and(|worker| {
            worker.asked.is_some() && !matches!(worker.phase, Phase::Killed { .. })
        })
    }

    pub(super) fn give_up_roll(&mut self, now: Duration, role: Role) {
        let Some(roll) = self.roll.take() else {
            return;
        };
        self.given_up |= roll.only.is_none();
        if roll.recycles {
            self.put_off_recycling(now, role);
        }
        let current = self.place_ref(role).current;
        if let Some(worker) = current.and_then(|id| self.workers.get_mut(&id)) {
            if roll.only.is_some() {
                // Else it would be tried again at once, for ever.
                worker.asked = None;
            }
        }
        let mut images = self.slots[..self.target]
            .iter()
            .chain(&self.extras)
            .filter(|place| !place.out)
            .map(|place| place.image);
        let first = images.next();
        let mixed = images.any(|image| Some(image) != first);
        self.push(Action::Report(Report::RollGivenUp { role, mixed }));
    }

    /// Nothing of it is begun any more. Those that it has told to stop go on to their end, and so does a successor that
    /// isn't ready.
    pub(super) fn cancel_roll(&mut self, reason: StopReason, by: Duration) {
        (self.reload, self.wanted) = (false, self.target);
        if self.roll.take().is_none() {
            return;
        }
        for slot in 0..self.slots.len() {
            let place = &mut self.slots[slot];
            if let Some(successor) = place.next.take() {
                place.leaving.push(successor);
                self.stop_worker(successor, reason, by);
            }
        }
    }

    /// The roll, if it waits for this worker to be ready.
    pub(super) fn roll_of(&mut self, id: WorkerId) -> Option<&mut Roll> {
        self.roll
            .as_mut()
            .filter(|roll| matches!(roll.stage, Stage::Starting(successor) if successor == id))
    }

    pub(super) fn set_stage(&mut self, stage: Stage) {
        if let Some(roll) = &mut self.roll {
            roll.stage = stage;
        }
    }

    pub(super) fn want(&mut self, workers: usize) {
        if !self.is_before_stop() {
            return;
        }
        if self.going.is_some() {
            self.push(Action::Report(Report::Refused(Refused::Scale)));
            return;
        }
        let wanted = workers.clamp(1, self.config.max_workers.max(1));
        if wanted == self.wanted {
            self.push(Action::Report(Report::ScaleLimit { workers: wanted }));
        }
        self.wanted = wanted;
    }

    pub(super) fn scale(&mut self, now: Duration) {
        let (from, to) = (self.target, self.wanted);
        if to < from && self.slots[..to].iter().all(|slot| slot.out) {
            // Those that would be left are vacant.
            self.wanted = from;
            self.push(Action::Report(Report::ScaleLimit { workers: from }));
            return;
        }
        self.target = to;
        self.adding = self.adding.filter(|slot| *slot < to);
        self.push(Action::Report(Report::Scaled { from, to }));
        for slot in from..to {
            let leaving = self
                .slots
                .get_mut(slot)
                .map(|slot| std::mem::take(&mut slot.leaving));
            let place = Place {
                leaving: leaving.unwrap_or_default(),
                ..Place::new(self.image)
            };
            if slot < self.slots.len() {
                self.slots[slot] = place;
            } else {
                self.slots.push(place);
            }
        }
        if from < to {
            self.add(now, from);
        }
        for slot in (to..from).rev() {
            self.push(Action::Close(Role::Slot(slot)));
            let place = &mut self.slots[slot];
            place.retry_at = None;
            if let Some(id) = place.current.take() {
                place.leaving.push(id);
                self.stop_worker(
                    id,
                    StopReason::ScaleDown,
                    now.saturating_add(self.config.shutdown_timeout),
                );
            }
        }
    }

    /// Starts a new slot's first worker.
    fn add(&mut self, now: Duration, slot: usize) {
        self.adding = (slot < self.target).then_some(slot);
        if self.adding.is_some() {
            self.slots[slot].retry_at = Some(now);
        }
    }

    /// This one is there; on to the next that is to be added.
    pub(super) fn added(&mut self, now: Duration, role: Role) {
        match role {
            Role::Slot(slot) if self.adding == Some(slot) => self.add(now, slot + 1),
            _ => {}
        }
    }

    /// The first worker of a new slot failed to start: as many as are there will do.
    pub(super) fn give_up_scale(&mut self, slot: usize) {
        for slot in (slot..self.target).rev() {
            self.push(Action::Close(Role::Slot(slot)));
            self.slots[slot].retry_at = None;
        }
        (self.target, self.wanted, self.adding) = (slot, slot, None);
        self.push(Action::Report(Report::ScaleGivenUp { slot }));
    }
}

#[cfg(test)]
mod tests;
