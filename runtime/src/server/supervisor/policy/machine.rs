//! What the supervisor does next: the table of events and of what follows from them.

use std::time::Duration;

use super::event::*;
use super::state::*;
use crate::server::line::Role;
use crate::server::stop::StopReason;

impl Policy {
    /// The first call, and only once.
    pub(crate) fn start(&mut self, now: Duration) -> Vec<Action> {
        if self.config.has_main {
            self.state = State::Entering;
            self.push(Action::EnterMain);
        } else {
            self.begin(now);
        }
        self.settle(now);
        self.take()
    }

    /// Something happened. What happened before a deadline is told before [`tick`](Policy::tick).
    pub(crate) fn on(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::MainEntered => {
                if self.state == State::Entering {
                    self.main = true;
                    self.begin(now);
                }
            }
            Event::MainFailed => self.main_gone(now, Ending::Failed),
            Event::MainLeft(ending) => self.main_gone(now, ending),
            Event::Ready(id) => self.ready(now, id),
            Event::Ending(id, ending) => self.ending(now, id, ending),
            Event::Ended(id, ending) => self.ended(now, id, ending),
            Event::Hung(id) => self.hung(now, id),
            Event::Worn(id, worn) => self.worn(id, worn),
            Event::WorkerSignalled(id, signal) => self.worker_signalled(now, id, signal),
            Event::StopSignal(signal) => self.stop_signal(now, signal),
            Event::StopRequested => self.stop_unforced(now, StopReason::Requested),
            Event::Drain => {
                self.counted_signal.get_or_insert(now);
                self.stop_unforced(now, StopReason::Requested);
            }
            Event::StopWithoutDelay => self.stop_without_delay(now),
            Event::Reload => {
                if self.going.is_some() {
                    self.push(Action::Report(Report::Refused(Refused::Reload)));
                } else if self.is_before_stop() {
                    self.reload = true;
                }
            }
            Event::Restart(role) => {
                if self.going.is_some() {
                    self.push(Action::Report(Report::Refused(Refused::Restart)));
                } else if self.is_before_stop() {
                    match self.may_be_restarted(role) {
                        true => drop(self.restarts.insert(role)),
                        false => self.push(Action::Report(Report::NotRestarted(role))),
                    }
                }
            }
            Event::ScaleUp => self.want(self.wanted + 1),
            Event::ScaleDown => self.want(self.wanted.saturating_sub(1)),
            Event::Scale(workers) => self.want(workers),
            Event::Tell => self.tell(),
            Event::Upgrade => self.ask_for_upgrade(),
            Event::UpgradeOver => self.upgrade_over(),
            Event::Succeeded => self.succeeded(now),
            Event::SuccessorDied => self.successor_died(now),
        }
        self.settle(now);
        self.take()
    }

    /// Acts on the deadlines that are due. Call it again if
    /// [`next_deadline`](Policy::next_deadline) still is.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Action> {
        match self.state {
            State::Forced { signal, by } if by <= now => self.exit(forced_code(signal)),
            State::Stopping(
                mut stopping @ Stopping {
                    step: Step::Main { by },
                    ..
                },
            ) if by <= now => {
                self.push(Action::Report(Report::MainTimedOut));
                stopping.timed_out = true;
                self.exit(stopping.exit_code());
            }
            State::Stopping(stopping) if self.last_call(&stopping) <= now => self.abandon(now),
            _ => {}
        }
        if self.going.is_some_and(|going| going.until <= now) {
            self.end_delay(now);
        }
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            self.judge(now, id);
        }
        self.settle(now);
        self.take()
    }

    /// When to call [`tick`](Policy::tick), if nothing happens before. Times beyond the driver's
    /// clock are never.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let state = match self.state {
            State::Forced { by, .. } => return Some(by),
            State::Stopping(Stopping {
                step: Step::Main { by },
                ..
            }) => Some(by),
            State::Stopping(stopping) => Some(self.last_call(&stopping)),
            _ => self.going.map(|going| going.until),
        };
        let workers = self
            .workers
            .values()
            .filter_map(|worker| match worker.phase {
                Phase::Starting { by, .. } if self.is_running() => {
                    Some(self.park_at(worker).map_or(by, |at| by.min(at)))
                }
                Phase::Draining { by } | Phase::Killed { by, .. } => Some(by),
                _ => None,
            });
        let retries = self
            .places()
            .filter_map(Place::spawn_at)
            .filter(|_| self.is_running());
        let others = retries.chain(self.recycling_due());
        state.into_iter().chain(workers).chain(others).min()
    }

    /// The driver was out for this long (suspend, SIGSTOP): nobody could act in that time, so it
    /// counts for nothing.
    pub(crate) fn gap(&mut self, by: Duration) {
        let shift = |time: &mut Duration| *time = time.saturating_add(by);
        match &mut self.state {
            State::Forced { by, .. } => shift(by),
            State::Stopping(stopping) => {
                shift(&mut stopping.end);
                if let Step::Main { by } = &mut stopping.step {
                    shift(by);
                }
            }
            _ => {}
        }
        for worker in self.workers.values_mut() {
            let times = worker.ready_at.iter_mut().chain(&mut worker.recycle_at);
            times.for_each(shift);
            match &mut worker.phase {
                Phase::Starting { since, by, .. } => {
                    shift(since);
                    shift(by);
                }
                Phase::Draining { by } | Phase::Killed { by, .. } => shift(by),
                Phase::Ready => {}
            }
        }
        for place in self.slots.iter_mut().chain(&mut self.extras) {
            place
                .retry_at
                .iter_mut()
                .chain(&mut place.recycle_not_before)
                .chain(&mut place.vacant_since)
                .chain(place.backoff.failures())
                .for_each(shift);
        }
        self.counted_signal.iter_mut().for_each(shift);
        if let Some(going) = &mut self.going {
            shift(&mut going.until);
            shift(&mut going.end);
        }
    }

    pub(super) fn judge(&mut self, now: Duration, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        match worker.phase {
            Phase::Starting { by, .. } if by <= now && self.is_running() => {
                self.push(Action::Report(Report::StartTimedOut(id)));
                self.kill(now, id, true);
            }
            Phase::Starting { since, by, .. } if self.is_running() => {
                let role = worker.role;
                if self.park_at(worker).is_some_and(|park_at| park_at <= now) {
                    let parked = true;
                    self.set_phase(id, Phase::Starting { since, by, parked });
                    self.push(Action::Park(role));
                }
            }
            Phase::Draining { by } if by <= now => {
                self.push(Action::Report(Report::StopTimedOut(id)));
                self.time_out();
                self.kill(now, id, false);
            }
            Phase::Killed { by, .. } if by <= now => {
                self.report_stuck(id);
                self.time_out();
                self.ended(now, id, Ending::Failed);
            }
            _ => {}
        }
    }

    /// Does what was put off, and can be done now.
    pub(super) fn settle(&mut self, now: Duration) {
        self.fill(now);
        if self.state == State::Starting && !self.started && self.extras_ready() {
            self.started = true;
            for slot in 0..self.target {
                self.spawn_current(now, Role::Slot(slot), Image(0));
            }
        }
        if self.state == State::Starting && self.all_ready() {
            self.state = State::Serving;
            self.push(Action::Report(Report::AllReady));
        }
        if self.state == State::Serving {
            while self.advance_roll(now) || self.begin_waiting(now) {}
            self.fill(now);
        }
        if self.is_running() {
            while self.slots.len() > self.target
                && self.slots.last().is_some_and(|slot| slot.live() == 0)
            {
                self.slots.pop();
            }
        }
    }

    /// Starts what is due to be started again.
    fn fill(&mut self, now: Duration) {
        if !self.is_running() {
            return;
        }
        let slots = (0..self.target).map(Role::Slot);
        let due: Vec<Role> = slots
            .chain((0..self.extras.len()).map(Role::Extra))
            .filter(|role| self.place_ref(*role).spawn_at().is_some_and(|at| at <= now))
            .collect();
        for role in due {
            let image = self.place_ref(role).image;
            self.spawn_current(now, role, image);
        }
    }

    pub(super) fn tell(&mut self) {
        for (id, worker) in &self.workers {
            if !matches!(worker.phase, Phase::Killed { .. }) {
                self.actions.push(Action::Tell(*id));
            }
        }
    }
}

#[cfg(test)]
mod tests;
