//! What systemd is told, as `sd_notify(3)` has it: that the server is ready, reloads or stops, how it stands, that it still
//! turns, and that it needs more time.
//!
//! `notices` decides, `socket` sends, `environment` reads what systemd has set.

mod environment;
mod notices;
mod socket;

use std::time::Duration;

use environment::Environment;
#[cfg(feature = "process")]
pub(super) use environment::OF_THE_SERVICE;
use notices::{Notices, Seen};
use socket::NotifySocket;

use super::driver::Supervisor;
use super::policy::{Phase, Report};
use crate::server::line::Role;
use crate::server::report;

/// The service manager that has started this program and wants to be told.
pub(crate) struct Systemd {
    notices: Notices,
    socket: NotifySocket,
    has_failed: bool,
}

impl Systemd {
    /// If there is one.
    pub(crate) fn of_environment() -> Option<Systemd> {
        let Environment { socket, watchdog } = Environment::read(std::process::id());
        let socket = match NotifySocket::new(&socket?) {
            Ok(socket) => socket,
            Err(error) => {
                report::log!(warn, %error, "systemd can't be told anything");
                return None;
            }
        };
        Some(Systemd {
            notices: Notices::new(watchdog),
            socket,
            has_failed: false,
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.notices.next_deadline()
    }

    fn send_due(&mut self, now: Duration) {
        while let Some(notice) = self.notices.due(now) {
            let went = match self.socket.send(notice.text().as_bytes()) {
                Ok(()) => true,
                Err(error) => {
                    if !socket::is_full(&error) && !std::mem::replace(&mut self.has_failed, true) {
                        report::log!(warn, %error, "systemd can't be told how the server is; it is tried again");
                    }
                    false
                }
            };
            self.notices.tried(now, notice, went);
        }
    }
}

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
            systemd.notices.see(now, seen);
            systemd.send_due(now);
        }
    }

    /// A rolling restart has been asked for.
    pub(super) fn notice_reload(&mut self) {
        if let Some(systemd) = &mut self.systemd {
            systemd.notices.reload();
        }
    }

    /// Something has happened that belongs into `systemctl status`.
    pub(super) fn notice(&mut self, remark: impl FnOnce() -> String) {
        if let Some(systemd) = &mut self.systemd {
            systemd.notices.remark(remark());
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
