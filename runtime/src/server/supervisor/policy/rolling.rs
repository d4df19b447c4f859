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
        let image = roll.image;
        match roll.stage {
            Stage::Next => match roll.remaining.pop_front() {
                Some(slot) if self.slots[slot].completed => {}
                Some(slot) => roll.stage = Stage::Waiting(slot),
                None => {
                    if roll.all {
                        self.image = image;
                    }
                    self.roll = None;
                    self.push(Action::Report(Report::RollDone));
                }
            },
            Stage::Waiting(slot) => {
                if !self.slots[slot].leaving.is_empty() {
                    return false;
                }
                let role = Role::Slot(slot);
                let successor = if self.slots[slot].current.is_some() {
                    let successor = self.spawn(now, role, image);
                    self.slots[slot].next = Some(successor);
                    successor
                } else {
                    self.spawn_current(now, role, image)
                };
                self.set_stage(Stage::Starting(successor));
            }
            Stage::Draining(old) if !self.workers.contains_key(&old) => roll.stage = Stage::Next,
            Stage::Starting(_) | Stage::Draining(_) => return false,
        }
        true
    }

    /// Begins what waited for the roll to end. Whether there was something.
    pub(super) fn begin_waiting(&mut self, now: Duration) -> bool {
        if self.roll.is_some() {
            return false;
        }
        if self.wanted != self.target {
            self.scale(now);
            return true;
        }
        let (all, slots, image) = if self.reload {
            self.reload = false;
            self.last_image.0 += 1;
            (
                true,
                (0..self.target).collect::<VecDeque<_>>(),
                self.last_image,
            )
        } else {
            let asked = (0..self.target).find(|slot| self.is_asked(*slot));
            let Some(slot) = asked else { return false };
            (false, VecDeque::from([slot]), self.slots[slot].image)
        };
        self.push(Action::Report(Report::RollStarted {
            slots: slots.len(),
            image,
        }));
        self.roll = Some(Roll {
            image,
            all,
            remaining: slots,
            stage: Stage::Next,
        });
        true
    }

    pub(super) fn is_asked(&self, slot: usize) -> bool {
        let worker = self.slots[slot]
            .current
            .and_then(|id| self.workers.get(&id));
        worker.is_some_and(|worker| {
            worker.asked.is_some() && !matches!(worker.phase, Phase::Killed { .. })
        })
    }

    pub(super) fn give_up_roll(&mut self, role: Role) {
        let (Some(roll), Role::Slot(slot)) = (self.roll.take(), role) else {
            return;
        };
        let current = self.slots[slot].current;
        if let Some(worker) = current.and_then(|id| self.workers.get_mut(&id)) {
            if !roll.all {
                // Else it would be tried again at once, for ever.
                worker.asked = None;
            }
        }
        let mut images = self
            .slots
            .iter()
            .filter(|slot| slot.current.is_some())
            .map(|slot| slot.image);
        let first = images.next();
        let mixed = images.any(|image| Some(image) != first);
        self.push(Action::Report(Report::RollGivenUp { slot, mixed }));
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
        self.push(Action::Report(Report::Scaled { from, to }));
        for slot in from..to {
            let leaving = self
                .slots
                .get_mut(slot)
                .map(|slot| std::mem::take(&mut slot.leaving));
            let place = Place {
                leaving: leaving.unwrap_or_default(),
                retry_at: Some(now),
                ..Place::new(self.image)
            };
            if slot < self.slots.len() {
                self.slots[slot] = place;
            } else {
                self.slots.push(place);
            }
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
}

#[cfg(test)]
mod tests;
