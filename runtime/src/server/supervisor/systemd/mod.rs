//! What systemd is told, as `sd_notify(3)` has it: that the server is ready, reloads or stops, how it stands, that it still
//! turns, and that it needs more time.
//!
//! `notices` decides, `socket` sends, `barrier` waits until what was sent has been dealt with, `environment` reads what systemd
//! has set.

#[cfg(feature = "process")]
mod barrier;
mod environment;
mod notices;
mod socket;

#[cfg(feature = "process")]
use std::io;
use std::time::Duration;

#[cfg(feature = "process")]
pub(super) use barrier::Barrier;
use environment::Environment;
#[cfg(feature = "process")]
pub(super) use environment::{NOTIFY_SOCKET, OF_THE_PROCESS};
use notices::Notices;
pub(super) use notices::Seen;
use socket::NotifySocket;

use crate::server::report;

/// The service manager that has started this program and wants to be told.
pub(crate) struct Systemd {
    notices: Notices,
    socket: NotifySocket,
    has_failed: bool,
    /// How often it wants to hear something.
    #[cfg_attr(not(feature = "process"), expect(dead_code))]
    watchdog: Option<Duration>,
    /// It listens to the predecessor of this process.
    waits: bool,
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
            watchdog,
            waits: false,
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.notices.next_deadline().filter(|_| !self.waits)
    }

    /// Takes in how the server stands now, and sends what is due.
    pub(super) fn tell(&mut self, now: Duration, seen: Seen) {
        self.notices.see(now, seen);
        if !self.waits {
            self.send_due(now);
        }
    }

    /// A rolling restart of all workers has been asked for.
    pub(super) fn reload(&mut self) {
        self.notices.reload();
    }

    /// Something has happened that belongs into `systemctl status`.
    pub(super) fn remark(&mut self, remark: String) {
        self.notices.remark(remark);
    }

    /// How often the service manager wants to hear something.
    #[cfg(feature = "process")]
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// This process is not the service yet: until it is, nothing is sent. Its watchdog is its predecessor's.
    #[cfg(feature = "process")]
    pub(super) fn wait_for_release(&mut self, watchdog: Option<Duration>) {
        self.watchdog = watchdog;
        self.notices = Notices::new(watchdog);
        self.waits = true;
    }

    /// The service is this process from now on.
    #[cfg(feature = "process")]
    pub(super) fn released(&mut self) {
        self.waits = false;
    }

    /// The process of this pid is the service from now on. Must be called in a runtime.
    #[cfg(feature = "process")]
    pub(super) fn succeeded_by(&self, pid: u32) -> io::Result<Barrier> {
        self.socket.send(format!("MAINPID={pid}").as_bytes())?;
        self.barrier()
    }

    /// Asks systemd to tell when it has dealt with everything that it was told before, descriptors included. Must be
    /// called in a runtime.
    #[cfg(feature = "process")]
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
