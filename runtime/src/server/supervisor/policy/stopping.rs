//! From the first reason to stop to the exit.

use std::time::Duration;

use super::event::*;
use super::state::*;
use crate::server::line::Role;
use crate::server::stop::{Signal, StopReason};

/// Stop signals this soon after one that counts belong to it: GNU `timeout` always sends two.
pub(super) const SAME_SIGNAL: Duration = Duration::from_millis(500);

impl Policy {
    pub(super) fn stop_signal(&mut self, now: Duration, signal: Signal) {
        let last = self.counted_signal;
        if last.is_some_and(|last| now.saturating_sub(last) <= SAME_SIGNAL) {
            return;
        }
        self.counted_signal = Some(now);
        match self.state {
            State::Stopping(_) if last.is_some() => self.force(now, signal),
            _ if self.going.is_some() && last.is_some() => self.end_delay(now),
            _ => self.stop_unforced(now, StopReason::Signal(signal)),
        }
    }

    /// Stops a server that isn't stopping yet.
    pub(super) fn stop_unforced(&mut self, now: Duration, reason: StopReason) {
        match self.state {
            State::Entering => {
                let by = now.saturating_add(self.config.shutdown_timeout);
                let step = Step::Main { by };
                self.main = true;
                self.state = State::Stopping(Stopping {
                    reason,
                    end: by,
                    code: 0,
                    timed_out: false,
                    step,
                });
                self.push(Action::Report(Report::Stopping { reason, by }));
                self.push(Action::DropEnter { reason, by });
            }
            // Of one that was never ready nobody has to turn away.
            State::Serving if !self.config.drain_delay.is_zero() => self.go(now, reason),
            State::Starting | State::Serving => self.stop(now, reason, 0),
            _ => {}
        }
    }

    pub(super) fn stop_without_delay(&mut self, now: Duration) {
        match self.state {
            _ if self.going.is_some() => self.end_delay(now),
            State::Serving => self.stop(now, StopReason::Requested, 0),
            _ => self.stop_unforced(now, StopReason::Requested),
        }
    }

    /// Serves on for a while, as a server that is going.
    fn go(&mut self, now: Duration, reason: StopReason) {
        if self.going.is_some() {
            return;
        }
        let delay = self.config.drain_delay;
        let end = now.saturating_add(self.config.shutdown_timeout);
        let until = now.saturating_add(delay);
        self.going = Some(Going { reason, until, end });
        self.push(Action::Report(Report::Going { reason, delay }));
        for id in self.ids_of(|_| true) {
            self.push(Action::TellGoing(id));
        }
        self.cancel_roll(reason, end);
        self.abandon_upgrade();
    }

    /// The stop that was delayed begins.
    pub(super) fn end_delay(&mut self, now: Duration) {
        if let Some(going) = self.going {
            self.stop(now, going.reason, 0);
        }
    }

    /// Begins the graceful stop.
    pub(super) fn stop(&mut self, now: Duration, reason: StopReason, code: i32) {
        self.abandon_upgrade();
        let end = match self.going.take() {
            Some(going) => going.end,
            None => now.saturating_add(self.config.shutdown_timeout),
        };
        let stopping = Stopping {
            reason,
            end,
            code: if self.cause == 0 { code } else { self.cause },
            timed_out: false,
            step: Step::Workers,
        };
        self.state = State::Stopping(stopping);
        self.push(Action::Report(Report::Stopping { reason, by: end }));
        for slot in 0..self.slots.len() {
            self.push(Action::Close(Role::Slot(slot)));
        }
        // Else the extras would be killed for time that the workers took.
        let extras_share = if self.has_live_extra() {
            GRACE.min(self.config.shutdown_timeout / 4)
        } else {
            Duration::ZERO
        };
        // A delay may have left less than the shares of what comes after.
        let by = self
            .extras_by(&stopping)
            .saturating_sub(extras_share)
            .max(now);
        let workers = self.ids_of(|role| matches!(role, Role::Slot(_)));
        for id in workers {
            self.stop_worker(id, reason, by);
        }
        self.advance_stop(now);
    }

    pub(super) fn advance_stop(&mut self, now: Duration) {
        let State::Stopping(mut stopping) = self.state else {
            return;
        };
        if stopping.step == Step::Workers
            && self.ids_of(|role| matches!(role, Role::Slot(_))).is_empty()
        {
            stopping.step = Step::Extras;
            for extra in 0..self.extras.len() {
                self.push(Action::Close(Role::Extra(extra)));
            }
            for id in self.ids_of(|_| true) {
                self.stop_worker(id, stopping.reason, self.extras_by(&stopping).max(now));
            }
        }
        if stopping.step == Step::Extras && self.workers.is_empty() {
            let by = stopping.end.max(now.saturating_add(GRACE));
            stopping.step = Step::Main { by };
            if self.main {
                self.push(Action::LeaveMain {
                    reason: stopping.reason,
                    by,
                });
            }
        }
        self.state = State::Stopping(stopping);
        if !self.main && matches!(stopping.step, Step::Main { .. }) {
            self.exit(stopping.exit_code());
        }
    }

    pub(super) fn main_gone(&mut self, now: Duration, ending: Ending) {
        self.main = false;
        match &mut self.state {
            State::Entering => self.exit(2),
            State::Starting | State::Serving => self.stop(now, StopReason::Failure, 2),
            State::Stopping(stopping) => {
                if ending.has_failed() && stopping.code == 0 {
                    stopping.code = 2;
                }
                stopping.timed_out |= ending.has_overrun();
                self.advance_stop(now);
            }
            State::New | State::Forced { .. } | State::Done => {}
        }
    }

    fn force(&mut self, now: Duration, signal: Signal) {
        self.push(Action::Report(Report::Forced(signal)));
        self.kill_all(now, Some(signal));
    }

    pub(super) fn kill_all(&mut self, now: Duration, signal: Option<Signal>) {
        // Threads end with the process.
        if !self.config.can_kill || self.workers.is_empty() {
            self.exit(forced_code(signal));
            return;
        }
        let by = self
            .hard_end()
            .unwrap_or(Duration::MAX)
            .min(now.saturating_add(GRACE));
        self.state = State::Forced { signal, by };
        for id in self.ids_of(|_| true) {
            if !matches!(self.workers[&id].phase, Phase::Killed { .. }) {
                self.kill(now, id, false);
            }
        }
    }

    /// The budget is at its end and workers are still there: what is left of it is the main
    /// context's.
    pub(super) fn abandon(&mut self, now: Duration) {
        for (id, worker) in std::mem::take(&mut self.workers) {
            match worker.phase {
                Phase::Killed { failed, .. } => {
                    self.report_stuck(id);
                    self.count_failure(failed);
                }
                _ => self.push(Action::Kill(id)),
            }
        }
        self.time_out();
        self.advance_stop(now);
    }

    pub(super) fn time_out(&mut self) {
        if let State::Stopping(stopping) = &mut self.state {
            stopping.timed_out = true;
        }
    }

    /// A failure while the server stops, if it is one.
    pub(super) fn count_failure(&mut self, failed: bool) {
        if let State::Stopping(stopping) = &mut self.state {
            if failed && stopping.code == 0 {
                stopping.code = 1;
            }
        }
    }

    pub(super) fn exit(&mut self, code: i32) {
        self.state = State::Done;
        self.workers.clear();
        self.push(Action::Exit(code));
    }

    /// What of the budget is kept for the main context, which gets [`GRACE`] whatever is left of it.
    pub(super) fn main_share(&self) -> Duration {
        if self.main {
            GRACE.min(self.config.shutdown_timeout / 2)
        } else {
            Duration::ZERO
        }
    }

    pub(super) fn extras_by(&self, stopping: &Stopping) -> Duration {
        stopping.end.saturating_sub(self.main_share())
    }

    /// When workers and extras that are not gone are no longer waited for.
    pub(super) fn last_call(&self, stopping: &Stopping) -> Duration {
        if self.main {
            stopping.end
        } else {
            stopping.end.saturating_add(GRACE)
        }
    }

    pub(super) fn has_live_extra(&self) -> bool {
        self.workers
            .values()
            .any(|worker| matches!(worker.role, Role::Extra(_)))
    }
}

#[cfg(test)]
mod tests;
