//! The replacement of the supervisor, as far as the server's own events go: when it may begin, and what follows.

use std::time::Duration;

use super::event::*;
use super::state::*;
use crate::server::stop::StopReason;

impl Policy {
    pub(super) fn ask_for_upgrade(&mut self) {
        if self.state == State::Done {
            // Nobody is left to do anything.
        } else if self.going.is_some() || !self.is_before_stop() {
            self.push(Action::Report(Report::Refused(Refused::Upgrade)));
        } else if self.upgrade == Upgrade::None {
            self.upgrade = Upgrade::Waiting;
        } else {
            self.push(Action::Report(Report::UpgradeUnderWay));
        }
    }

    pub(super) fn upgrade_over(&mut self) {
        if self.upgrade == Upgrade::Running {
            self.upgrade = Upgrade::None;
        }
    }

    /// The workers leave as predecessors do in a rolling restart.
    pub(super) fn succeeded(&mut self, now: Duration) {
        if self.upgrade == Upgrade::Running && self.is_running() {
            self.upgrade = Upgrade::Done;
            self.stop(now, StopReason::Restart, 0);
        }
    }

    /// Nobody serves any more, and whoever watches over the server is to know it at once.
    pub(super) fn successor_died(&mut self, now: Duration) {
        let State::Stopping(stopping) = &mut self.state else {
            return;
        };
        if self.upgrade != Upgrade::Done {
            return;
        }
        if stopping.code == 0 {
            stopping.code = 1;
        }
        if !self.workers.is_empty() {
            self.push(Action::Report(Report::SuccessorDied));
            self.kill_all(now, None);
        }
    }

    /// The server stops, and its successor with it.
    pub(super) fn abandon_upgrade(&mut self) {
        match self.upgrade {
            Upgrade::Running => self.push(Action::AbandonUpgrade),
            Upgrade::Done => return,
            Upgrade::None | Upgrade::Waiting => {}
        }
        self.upgrade = Upgrade::None;
    }
}

#[cfg(test)]
mod tests;
