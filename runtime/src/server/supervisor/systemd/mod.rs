//! What systemd is told, as `sd_notify(3)` has it: that the server is ready, reloads or stops, how it stands, that it still
//! turns, and that it needs more time.
//!
//! `notices` decides, `socket` sends, `barrier` waits until what was sent has been dealt with, `environment` reads what systemd
//! has set.

mod barrier;
mod environment;
mod notices;
mod socket;

use std::io;
use std::time::Duration;

#[allow(unused_imports, reason = "what waits for it follows")]
pub(super) use barrier::Barrier;
use environment::Environment;
#[cfg(feature = "process")]
pub(super) use environment::OF_THE_SERVICE;
use notices::Notices;
pub(super) use notices::Seen;
use socket::NotifySocket;

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

    /// Takes in how the server stands now, and sends what is due.
    pub(super) fn tell(&mut self, now: Duration, seen: Seen) {
        self.notices.see(now, seen);
        self.send_due(now);
    }

    /// A rolling restart of all workers has been asked for.
    pub(super) fn reload(&mut self) {
        self.notices.reload();
    }

    /// Something has happened that belongs into `systemctl status`.
    pub(super) fn remark(&mut self, remark: String) {
        self.notices.remark(remark);
    }

    /// Asks systemd to tell when it has dealt with everything that it was told before, descriptors included. Must be
    /// called in a runtime.
    #[allow(dead_code, reason = "what waits for it follows")]
    pub(super) fn barrier(&self) -> io::Result<Barrier> {
        barrier::send(&self.socket)
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
