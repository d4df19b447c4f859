//! What systemd is told, as `sd_notify(3)` has it: that the server is ready, reloads or stops, how it stands, that it still
//! turns, and that it needs more time.
//!
//! `notices` decides, `store` what systemd is to keep for the next run, `socket` sends, `barrier` waits until what was sent has
//! been dealt with, `environment` reads what systemd has set.

mod barrier;
mod environment;
mod notices;
mod socket;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub(super) use barrier::Barrier;
use environment::Environment;
#[cfg(feature = "process")]
pub(super) use environment::OF_THE_SERVICE;
pub(super) use notices::Seen;
use notices::{Notice, Notices};
use socket::NotifySocket;
use store::Store;

use super::policy::Phase;
use super::sockets::Offered;
use crate::server::report;

/// What systemd is to keep for the next run, by the sockets' identities.
pub(super) type Offers<'o> = BTreeMap<u64, Offered<'o, OwnedFd>>;

/// The service manager that has started this program and wants to be told.
pub(crate) struct Systemd {
    notices: Notices,
    socket: NotifySocket,
    store: Store,
    has_failed: bool,
    has_told_room: bool,
}

impl Systemd {
    /// If there is one. By their names, what it has kept from the run before.
    pub(crate) fn of_environment(in_store: BTreeMap<String, u64>) -> Option<Systemd> {
        let Environment {
            socket,
            watchdog,
            store,
        } = Environment::read(std::process::id());
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
            store: Store::new(store, in_store),
            has_failed: false,
            has_told_room: false,
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.notices.next_deadline()
    }

    /// Takes in how the server stands now, and sends what is due.
    pub(super) fn tell(&mut self, now: Duration, seen: Seen, offers: &Offers<'_>) {
        if seen.standing.phase == Phase::Serving {
            self.tell_room();
        }
        self.notices.see(now, seen);
        self.send_due(now, offers);
    }

    /// Has systemd keep these sockets and no others. Whether it is to let go of some.
    pub(super) fn keep(&mut self, offers: &Offers<'_>) -> bool {
        let wanted = offers.keys().copied().collect();
        let called = |identity: u64| offers[&identity].called();
        self.notices.changed(self.store.follow(&wanted, called))
    }

    fn tell_room(&mut self) {
        let Some((room, sockets)) = self.store.too_small() else {
            return;
        };
        if !std::mem::replace(&mut self.has_told_room, true) {
            report::log!(
                warn,
                room,
                sockets,
                "systemd keeps {room} of {sockets} listening sockets; for the others, what waits in them is lost when the \
                 supervisor is killed: write `FileDescriptorStoreMax={sockets}` or more"
            );
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

    /// Asks systemd to tell when it has dealt with everything that it was told before, descriptors included. Must be
    /// called in a runtime.
    pub(super) fn barrier(&self) -> io::Result<Barrier> {
        barrier::send(&self.socket)
    }

    /// Sends what is due.
    pub(super) fn send_due(&mut self, now: Duration, offers: &Offers<'_>) {
        while let Some(notice) = self.notices.due(now) {
            let descriptor = match &notice {
                Notice::Keep { identity, .. } => match offers.get(identity) {
                    Some(offered) => Some(offered.socket.as_fd()),
                    // It has been closed since.
                    None => {
                        self.notices.tried(now, notice, true);
                        continue;
                    }
                },
                _ => None,
            };
            let text = notice.text();
            let went = match (self.socket.send(text.as_bytes(), descriptor), &notice) {
                (Ok(()), _) => true,
                (Err(error), _) if socket::is_full(&error) => false,
                // What has to arrive doesn't wait for it.
                (Err(error), Notice::Keep { called, .. }) => {
                    report::log!(warn, %error, "systemd can't keep the socket {called}: {error}");
                    true
                }
                (Err(error), _) => {
                    if !std::mem::replace(&mut self.has_failed, true) {
                        report::log!(warn, %error, "systemd can't be told how the server is; it is tried again");
                    }
                    false
                }
            };
            self.notices.tried(now, notice, went);
        }
    }
}
