//! A role and who fills it: starts, ends, failures and their backoff.

use std::time::Duration;

use super::event::*;
use super::state::*;
use crate::backoff::{self, Rule, Verdict};
use crate::server::OnFailure;
use crate::server::line::Role;
use crate::server::stop::{Signal, StopReason};

/// A slot whose successor is due later than this after its last worker's end is parked.
pub(super) const PARK_BACKOFF: Duration = Duration::from_secs(1);
/// A slot whose successor has been starting for this long is parked.
pub(super) const PARK_STARTING: Duration = Duration::from_secs(5);

impl Policy {
    /// The extras first; the workers follow when those are ready.
    pub(super) fn begin(&mut self, now: Duration) {
        self.state = State::Starting;
        for extra in 0..self.extras.len() {
            self.spawn_current(now, Role::Extra(extra), Image(0));
        }
    }

    pub(super) fn spawn(&mut self, now: Duration, role: Role, image: Image) -> WorkerId {
        let id = WorkerId(self.next_id);
        self.next_id += 1;
        let (phase, ready_at) = match role {
            Role::Extra(extra) if self.config.extra_sync[extra] => (Phase::Ready, Some(now)),
            _ => {
                let by = now.saturating_add(self.config.start_timeout);
                let (since, parked) = (now, false);
                (Phase::Starting { since, by, parked }, None)
            }
        };
        let worker = Worker {
            role,
            image,
            phase,
            ready_at,
            asked: None,
            recycle_at: None,
            worn: None,
        };
        self.workers.insert(id, worker);
        self.push(Action::Spawn { id, role, image });
        if self.going.is_some() {
            self.push(Action::TellGoing(id));
        }
        id
    }

    pub(super) fn spawn_current(&mut self, now: Duration, role: Role, image: Image) -> WorkerId {
        let id = self.spawn(now, role, image);
        let is_ready = self.is_ready(Some(id));
        let place = self.place(role);
        if is_ready {
            place.image = image;
            place.been_ready = true;
        }
        place.current = Some(id);
        place.retry_at = None;
        place.out = false;
        id
    }

    pub(super) fn ready(&mut self, now: Duration, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Phase::Starting { .. } = worker.phase else {
            return;
        };
        worker.phase = Phase::Ready;
        worker.ready_at = Some(now);
        let (after, jitter) = (self.config.recycle_after, self.config.jitter);
        worker.recycle_at = after.map(|after| now.saturating_add(jitter(after)));
        let (role, image) = (worker.role, worker.image);
        if !self.is_running() {
            return;
        }
        self.push(Action::CloseUnasked(id));
        let place = self.place(role);
        place.image = image;
        place.been_ready = true;
        place.served = true;
        place.vacant_since = None;
        if let Some(roll) = self.roll_of(id) {
            roll.stage = Stage::Next;
        }
        self.added(now, role);
        let place = self.place(role);
        if place.next == Some(id) {
            place.next = None;
            (place.recycle_not_before, place.recycle_streak) = (None, 0);
            if let Some(old) = place.current.replace(id) {
                place.leaving.push(old);
                if let Some(roll) = &mut self.roll {
                    roll.draining.push(old);
                }
                let worker = &self.workers[&old];
                let (asked, ready_at) = (worker.asked, worker.ready_at);
                self.forgive(now, role, ready_at);
                let reason = asked.map_or(StopReason::Restart, StopReason::Signal);
                let by = now.saturating_add(self.config.shutdown_timeout);
                self.stop_worker(old, reason, by);
            }
        }
    }

    /// Its place is vacant from now on, not only once the worker is gone.
    pub(super) fn ending(&mut self, now: Duration, id: WorkerId, ending: Ending) {
        let Some(worker) = self.workers.get(&id).cloned() else {
            return;
        };
        let unasked =
            matches!(worker.phase, Phase::Starting { .. } | Phase::Ready) && worker.asked.is_none();
        let completes = self.config.run_to_completion && !ending.has_failed();
        // Of an extra there is never more than one at a time, so its place is vacant when it is gone.
        let is_extra = matches!(worker.role, Role::Extra(_));
        if !self.is_running() || !unasked || completes || is_extra {
            return;
        }
        self.vacated(now, id, &worker, ending);
        if self.is_running() {
            // What it has still to do may wait for a stop.
            let by = now.saturating_add(self.config.shutdown_timeout);
            self.stop_worker(id, StopReason::Failure, by);
        }
        let place = self.place(worker.role);
        place.leaving.push(id);
        // Its successor has to wait for one of those to go.
        if place.served && place.live() >= 2 && place.current.is_none() && self.is_running() {
            self.push(Action::Park(worker.role));
        }
    }

    pub(super) fn ended(&mut self, now: Duration, id: WorkerId, ending: Ending) {
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        match &mut self.state {
            State::Stopping(stopping) => {
                let failed = match worker.phase {
                    Phase::Killed { failed, .. } => failed,
                    _ => ending.has_failed(),
                };
                stopping.timed_out |= ending.has_overrun();
                self.count_failure(failed);
                self.advance_stop(now);
            }
            State::Forced { signal, .. } => {
                let code = forced_code(*signal);
                if self.workers.is_empty() {
                    self.exit(code);
                }
            }
            _ => self.vacated(now, id, &worker, ending),
        }
    }

    /// A worker is gone, or as good as gone, while the server runs.
    pub(super) fn vacated(&mut self, now: Duration, id: WorkerId, worker: &Worker, ending: Ending) {
        let role = worker.role;
        let place = self.place(role);
        if let Some(position) = place.leaving.iter().position(|leaving| *leaving == id) {
            place.leaving.remove(position);
            return;
        }
        self.forgive(now, role, worker.ready_at);
        self.unpark(role);
        let place = self.place(role);
        // It may have listened before it was ready.
        place.served = true;
        let killed_for_failure = matches!(worker.phase, Phase::Killed { failed: true, .. });
        let asked = !killed_for_failure
            && (ending == Ending::KilledByStopSignal
                || worker.asked.is_some()
                || matches!(worker.phase, Phase::Draining { .. } | Phase::Killed { .. }));
        if place.next == Some(id) {
            place.next = None;
            if asked {
                let successor = self.spawn(now, role, worker.image);
                self.place(role).next = Some(successor);
                self.set_stage(Stage::Starting(successor));
            } else {
                if !ending.has_failed() && !killed_for_failure {
                    self.push(Action::Report(Report::ReturnedUnasked(id)));
                }
                self.give_up_roll(now, role);
            }
            return;
        }
        place.current = place.next.take();
        if place.current.is_some() {
            // A roll's successor is on its way: whatever this was, it is already being mended.
            return;
        }
        let in_roll = self.roll_of(id).is_some();
        if asked {
            if self.is_rolled_away(role) {
                return;
            }
            let image = match in_roll {
                true => worker.image,
                // What a roll that was cancelled has started may not work.
                false => self.place_ref(role).image,
            };
            let successor = self.spawn_current(now, role, image);
            if in_roll {
                self.set_stage(Stage::Starting(successor));
            }
            return;
        }
        let returned = !ending.has_failed() && !killed_for_failure;
        if returned && matches!(role, Role::Extra(_)) {
            if in_roll {
                self.set_stage(Stage::Next);
            }
            self.push(Action::Report(Report::ExtraEnded(role)));
            self.complete(now, role);
            return;
        }
        if in_roll {
            self.give_up_roll(now, role);
            let place = self.place_ref(role);
            if matches!(role, Role::Extra(_)) && place.been_ready {
                // Its predecessor had to go first, and did nothing wrong.
                self.spawn_current(now, role, place.image);
                return;
            }
        }
        if returned && self.config.run_to_completion {
            self.completed = true;
            self.complete(now, role);
            self.added(now, role);
            return;
        }
        if returned {
            self.push(Action::Report(Report::ReturnedUnasked(id)));
        }
        self.failed(now, role);
    }

    /// It came to its own end, and needs no successor.
    fn complete(&mut self, now: Duration, role: Role) {
        self.place(role).completed = true;
        self.vacate(now, role);
    }

    /// A worker has failed that is not to be replaced by other means.
    pub(super) fn failed(&mut self, now: Duration, role: Role) {
        let been_ready = self.place_ref(role).been_ready;
        match (self.config.on_failure, role) {
            (_, Role::Slot(slot)) if self.adding == Some(slot) => self.give_up_scale(slot),
            (OnFailure::Ignore, _) => self.go_on_without(now, role),
            (OnFailure::Restart, _) if been_ready => self.back_off(now, role),
            (OnFailure::Restart | OnFailure::Shutdown, _) => self.give_up(now, role, 1),
        }
    }

    fn go_on_without(&mut self, now: Duration, role: Role) {
        self.vacate(now, role);
        if self.is_running() {
            self.push(Action::Report(Report::Vacant(role)));
        }
    }

    /// This failure ends the server: at once, or when the others have run to their completion.
    fn give_up(&mut self, now: Duration, role: Role, code: i32) {
        if !self.config.run_to_completion || !self.started {
            self.stop(now, StopReason::Failure, code);
            return;
        }
        if self.cause == 0 {
            self.cause = code;
        }
        self.go_on_without(now, role);
    }

    pub(super) fn back_off(&mut self, now: Duration, role: Role) {
        let rule = self.restart_rule();
        let place = self.place(role);
        let delay = match place.backoff.fail(now, &rule) {
            Verdict::Restart { delay } => delay,
            Verdict::GiveUp { failures } => {
                self.push(Action::Report(Report::TooManyFailures { role, failures }));
                return self.give_up(now, role, 4);
            }
        };
        let retry_at = now.saturating_add(delay);
        place.retry_at = Some(retry_at);
        let vacant_since = *place.vacant_since.get_or_insert(now);
        let park = place.served && retry_at.saturating_sub(vacant_since) > PARK_BACKOFF;
        self.push(Action::Report(Report::Backoff { role, delay }));
        if self.given_up && self.target > 1 && matches!(role, Role::Slot(_)) {
            self.push(Action::Report(Report::SettingsMayDiffer(role)));
        }
        if park {
            self.push(Action::Park(role));
        }
    }

    /// A worker that was ready for long enough makes up for the failures before it.
    pub(super) fn forgive(&mut self, now: Duration, role: Role, ready_at: Option<Duration>) {
        let rule = self.restart_rule();
        self.place(role).backoff.forgive(now, ready_at, &rule);
    }

    pub(super) fn restart_rule(&self) -> Rule {
        Rule {
            first: backoff::FIRST,
            max: self.config.max_restarts,
            window: self.config.restart_window,
            jitter: self.config.jitter,
        }
    }

    /// A worker that is gone may have had the sockets listen again.
    pub(super) fn unpark(&mut self, role: Role) {
        let place = self.place(role);
        for id in [place.current, place.next].into_iter().flatten() {
            let worker = self.workers.get_mut(&id);
            if let Some(Phase::Starting { parked, .. }) = worker.map(|worker| &mut worker.phase) {
                *parked = false;
            }
        }
    }

    /// A place is not filled again. With no worker left, the server has nothing to do.
    pub(super) fn vacate(&mut self, now: Duration, role: Role) {
        let place = self.place(role);
        place.out = true;
        place.served = false;
        self.push(Action::Close(role));
        if self.slots[..self.target].iter().all(|slot| slot.out) {
            let (reason, code) = if self.completed && self.cause == 0 {
                (StopReason::Completed, 0)
            } else {
                (StopReason::Failure, 1)
            };
            self.stop(now, reason, code);
        }
    }

    pub(super) fn hung(&mut self, now: Duration, id: WorkerId) {
        // A blocked thread can't be ended, and its future not be dropped.
        if self.is_ready(Some(id)) && self.is_running() && self.config.can_kill {
            self.kill(now, id, true);
        }
    }

    pub(super) fn worker_signalled(&mut self, now: Duration, id: WorkerId, signal: Signal) {
        // A service manager signals all processes of a server that is to go.
        if !self.is_running() || self.going.is_some() {
            return;
        }
        let by = now.saturating_add(self.config.shutdown_timeout);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.asked.is_some() || !matches!(worker.phase, Phase::Starting { .. } | Phase::Ready)
        {
            return;
        }
        worker.asked = Some(signal);
        // Two of an extra at once may be one too many: it has a port of its own, perhaps. It goes
        // before it comes.
        if matches!(worker.role, Role::Extra(_)) {
            self.stop_worker(id, StopReason::Signal(signal), by);
        }
    }

    /// Tells a worker to stop, unless it has been told.
    pub(super) fn stop_worker(&mut self, id: WorkerId, reason: StopReason, by: Duration) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        match &mut worker.phase {
            Phase::Starting { .. } | Phase::Ready => {
                worker.phase = Phase::Draining { by };
                self.push(Action::Stop { id, reason, by });
            }
            Phase::Draining { by: earlier } => *earlier = by.min(*earlier),
            Phase::Killed { .. } => {}
        }
    }

    pub(super) fn kill(&mut self, now: Duration, id: WorkerId, failed: bool) {
        let mut by = now.saturating_add(GRACE);
        if let State::Stopping(stopping) = &self.state {
            by = by.min(self.last_call(stopping));
        }
        self.set_phase(id, Phase::Killed { by, failed });
        self.push(Action::Kill(id));
    }

    pub(super) fn report_stuck(&mut self, id: WorkerId) {
        self.stuck += 1;
        self.push(Action::Report(Report::Stuck {
            id,
            total: self.stuck,
        }));
    }

    /// When the sockets left by the predecessors of this starting worker are parked.
    pub(super) fn park_at(&self, worker: &Worker) -> Option<Duration> {
        let Phase::Starting {
            since,
            parked: false,
            ..
        } = worker.phase
        else {
            return None;
        };
        let place = self.place_ref(worker.role);
        let vacant = place.served && !self.is_ready(place.current);
        vacant.then(|| since.saturating_add(PARK_STARTING))
    }
}

#[cfg(test)]
mod tests;
