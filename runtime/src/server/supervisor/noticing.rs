//! What systemd is told of.

use std::io;

use super::driver::Supervisor;
use super::policy::{Phase, Report};
use super::systemd::{Barrier, Seen};
use crate::server::line::Role;
use crate::server::report;

impl Supervisor {
    /// Tells systemd what has changed and what is due.
    pub(super) fn notify(&mut self) {
        if self.systemd.is_none() {
            return;
        }
        let now = self.now();
        let is_worker = |role: Role| matches!(role, Role::Slot(_));
        let mut ready = self
            .workers
            .values()
            .filter(|live| is_worker(live.role) && live.must_answer())
            .peekable();
        let all_blocked = ready.peek().is_some() && ready.all(|live| live.pulse.is_blocked());
        let names: Vec<String> = self.sockets.names().map(|name| name.to_string()).collect();
        let mut standing = self.policy.standing();
        if standing.phase == Phase::Starting {
            // The main context may be entered for as long as it likes, but not on these terms.
            standing.until.get_or_insert(self.config.start_timeout);
        }
        let seen = Seen {
            standing,
            all_blocked,
            addresses: names.join(", "),
        };
        if let Some(systemd) = &mut self.systemd {
            let offers = self.sockets.offered();
            // What a server that stops closes is kept for the next one.
            if !self.stopping {
                systemd.keep(&offers);
            }
            systemd.tell(now, seen, &offers);
        }
    }

    /// A role has given its sockets up. If systemd has one of them, what tells that it has let go of it, too.
    pub(super) fn keep_no_more(&mut self) -> Option<Barrier> {
        let now = self.now();
        let systemd = self.systemd.as_mut().filter(|_| !self.stopping)?;
        let offers = self.sockets.offered();
        if !systemd.keep(&offers) {
            return None;
        }
        systemd.send_due(now, &offers);
        let barrier = systemd.barrier();
        let failed = |error: &io::Error| {
            report::log!(warn, %error, "systemd can't be asked whether it has let go of a socket");
        };
        barrier.inspect_err(failed).ok()
    }

    /// A rolling restart has been asked for.
    pub(super) fn notice_reload(&mut self) {
        if let Some(systemd) = &mut self.systemd {
            systemd.reload();
        }
    }

    /// Something has happened that belongs into `systemctl status`.
    pub(super) fn notice(&mut self, remark: impl FnOnce() -> String) {
        if let Some(systemd) = &mut self.systemd {
            systemd.remark(remark());
        }
    }

    pub(super) fn notice_report(&mut self, told: &Report) {
        match told {
            Report::RollStarted { .. } => self.notice(String::new),
            Report::RollDone => self.notice(|| "rolling restart done".to_owned()),
            Report::RollGivenUp { role, .. } => {
                let name = self.job.name(*role);
                self.notice(|| {
                    format!("rolling restart given up: the successor of {name} failed to start")
                });
            }
            _ => {}
        }
    }
}
