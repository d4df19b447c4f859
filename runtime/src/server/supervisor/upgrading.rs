//! The driver's part in the replacement of this supervisor, and in that of its predecessor by it.

use std::io;
use std::time::Duration;

use super::driver::Supervisor;
use super::entrances::Entrances;
use super::inbox::Input;
use super::policy::{self, Phase};
use super::signals;
use super::systemd::Systemd;
use super::upgrade::handover::{Action, Event, Handover, Timeouts};
#[cfg(feature = "monitor")]
use super::upgrade::messages::by_entrances;
use super::upgrade::messages::{ToPredecessor, ToSuccessor, messages};
use super::upgrade::predecessor::{Heard, attend};
use super::upgrade::state::{Ongoing, Other, Succeeding};
use super::upgrade::succession::{self, Succession};
use super::upgrade::successor::{Said, Successor};
use super::upgrade::{Heir, Roles};
use crate::server::line::Role;
use crate::server::{registry, report};

/// By when a new supervisor has greeted.
const GREETING: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Why this supervisor can't be replaced, and what to do, if it can't.
    pub(super) fn why_no_upgrade(&self) -> Option<String> {
        let Some(upgrader) = &self.upgrading.upgrader else {
            let text = "`Server::start` runs it inside a program that is more than the server; restart the program";
            return Some(text.to_owned());
        };
        let text = if self.config.run_to_completion {
            "a server that runs to completion can't be upgraded: wait until it ends"
        } else if !upgrader.is_first || registry::runs_several() {
            "the program runs several servers, and a new supervisor would have the sockets of one of them only; restart \
             the program"
        } else if signals::has_terminal() {
            "the server has a controlling terminal, which takes the end of this process for the end of the server; start \
             it without one, as a service or with `setsid`"
        } else if self.systemd.is_none() && !upgrader.new_pid {
            "the new supervisor would have another pid, and whoever started this one would take the end of the old pid \
             for the end of the server; run it under systemd with `Type=notify`, or say `upgrade = new_pid` if nobody \
             waits for its pid"
        } else if self.upgrading.is_waiting() {
            "this supervisor has yet to take over from the one that it replaces; try again when it has"
        } else {
            let error = upgrader.origin.as_ref().err()?;
            return Some(error.to_string());
        };
        Some(text.to_owned())
    }

    /// Starts what is on disk.
    pub(super) fn start_successor(&mut self) {
        match self.try_start_successor() {
            Ok(pid) => {
                // It finds all of that in its socket when it looks, also if this process is gone by then.
                self.hand_over();
                report::log!(
                    info,
                    pid,
                    "upgrading: the new supervisor is process {pid}; it has {GREETING:?} to greet"
                );
                self.notice(|| format!("upgrading: the new supervisor is process {pid}"));
            }
            Err(error) => {
                let cause = error.to_string();
                self.upgrade_failed(&cause);
                #[cfg(feature = "monitor")]
                self.note_upgrade_failed(&cause);
                self.arisen.push_back(policy::Event::UpgradeOver);
            }
        }
    }

    fn try_start_successor(&mut self) -> io::Result<u32> {
        let upgrader = self.upgrading.upgrader.as_ref();
        let origin = upgrader.and_then(|upgrader| upgrader.origin.as_ref().ok());
        let origin = origin.ok_or(io::ErrorKind::NotFound)?;
        let (process, socket) = origin.spawn_successor(&origin.newest()?)?;
        self.upgrading.number += 1;
        let (number, inbox) = (self.upgrading.number, self.supervisor.clone());
        let successor = Successor::new(process, socket, move |said| {
            // A supervisor that is gone has nothing to do with it any more.
            let _ = inbox.send(Input::Other(Other::Successor(number, said)));
        })?;
        let pid = successor.pid;
        let timeouts = Timeouts {
            greeting: GREETING,
            start: self.config.start_timeout,
            stop: self.config.shutdown_timeout,
        };
        self.upgrading.ongoing = Some(Ongoing {
            number,
            handover: Handover::new(self.now(), timeouts, self.systemd.is_some()),
            successor,
            failed: None,
        });
        Ok(pid)
    }

    pub(super) fn abandon_upgrade(&mut self) {
        self.handover(Event::Abandon);
    }

    /// The end is forced, and that of a successor that has yet to go with it.
    pub(super) fn force_upgrade(&mut self) {
        self.handover(Event::Force);
    }

    /// Acts on what is due of the upgrade.
    pub(super) fn look_after_upgrade(&mut self, now: Duration) {
        while self.upgrading.next_deadline().is_some_and(|at| at <= now) {
            let Some(ongoing) = &mut self.upgrading.ongoing else {
                return;
            };
            let actions = ongoing.handover.tick(now);
            self.carry_out_handover(actions);
        }
    }

    pub(super) fn other_said(&mut self, other: Other) {
        let current = self.upgrading.ongoing.as_ref().map(|it| it.number);
        match other {
            Other::Predecessor(heard) => self.succeed(match heard {
                Heard::Released => succession::Event::Released,
                Heard::Gone => succession::Event::Gone,
            }),
            Other::Successor(number, said) if Some(number) == current => {
                self.handover(match said {
                    Said::Message(ToPredecessor::Hello { .. }) => Event::Greeted,
                    Said::Message(ToPredecessor::Failing(cause)) => Event::Failing(cause),
                    Said::Message(ToPredecessor::Ready) => Event::Ready,
                    Said::Broken(cause) => Event::Broken(cause),
                    Said::Left => Event::Left,
                    Said::Ended(how) => Event::Ended(how),
                });
            }
            Other::Named(number, passed) if Some(number) == current => {
                if !passed {
                    report::log!(warn, "upgrading: systemd doesn't confirm the new pid");
                }
                self.handover(Event::Named);
            }
            Other::Successor(..) | Other::Named(..) => {}
        }
        self.act(Vec::new());
    }

    fn handover(&mut self, event: Event) {
        let now = self.now();
        if let Some(ongoing) = &mut self.upgrading.ongoing {
            let actions = ongoing.handover.on(now, event);
            self.carry_out_handover(actions);
        }
    }

    fn carry_out_handover(&mut self, actions: Vec<Action>) {
        for action in actions {
            let Some(Ongoing { successor, .. }) = &self.upgrading.ongoing else {
                return;
            };
            let pid = successor.pid;
            match action {
                Action::Name => self.name_successor(),
                Action::Release => self.release(),
                Action::AskToStop => successor.ask_to_stop(),
                Action::Kill => {
                    report::log!(warn, pid, "the new supervisor has not stopped: killed");
                    successor.kill();
                }
                Action::Failed(cause) => {
                    self.upgrade_failed(&cause);
                    if let Some(ongoing) = &mut self.upgrading.ongoing {
                        ongoing.failed = Some(cause);
                    }
                }
                Action::Over => {
                    let over = self.upgrading.ongoing.take();
                    report::log!(debug, pid, "the new supervisor (process {pid}) is gone");
                    #[cfg(feature = "monitor")]
                    if let Some(cause) = over.and_then(|ongoing| ongoing.failed) {
                        self.note_upgrade_failed(&cause);
                    }
                    #[cfg(not(feature = "monitor"))]
                    drop(over);
                    self.share_sockets();
                    self.arisen.push_back(policy::Event::UpgradeOver);
                }
                Action::Died(how) => {
                    report::failure(format_args!(
                        "the new supervisor (process {pid}) has died, and nobody serves any more: {how}"
                    ));
                    self.arisen.push_back(policy::Event::SuccessorDied);
                }
            }
        }
    }

    /// Whether another supervisor serves in the place of this one.
    #[cfg(feature = "monitor")]
    pub(super) fn is_replaced(&self) -> bool {
        let ongoing = self.upgrading.ongoing.as_ref();
        ongoing.is_some_and(|ongoing| ongoing.handover.is_released())
    }

    fn upgrade_failed(&mut self, cause: &str) {
        report::failed!(
            { cause },
            "upgrade failed, and this supervisor serves on: {cause}"
        );
        self.notice(|| format!("upgrade failed: {cause}"));
    }

    fn roles(&self) -> Roles {
        let extras = 0..self.config.extra_sync.len();
        Roles::new(extras.map(|extra| self.job.name(Role::Extra(extra))))
    }

    /// Everything that both have from here on.
    fn hand_over(&mut self) {
        self.sockets.share_with_another(true);
        let estate = match self.sockets.estate() {
            Ok(estate) => estate,
            Err(error) => {
                let cause = format!("its sockets can't be handed over: {error}");
                return self.handover(Event::Broken(cause));
            }
        };
        #[cfg_attr(not(feature = "monitor"), expect(unused_mut))]
        let mut messages = messages(estate, &self.roles());
        #[cfg(feature = "monitor")]
        if let Some((entrances, _)) = &self.upgrading.reception {
            match entrances.duplicate() {
                Ok(entrances) => messages.extend(by_entrances(entrances)),
                Err(error) => {
                    report::log!(warn, %error, "the door can't be handed over: {error}");
                }
            }
        }
        let workers = self.upgrading.scaled.then(|| self.policy.target());
        let watchdog = self.systemd.as_ref().and_then(Systemd::watchdog);
        if let Some(Ongoing { successor, .. }) = &self.upgrading.ongoing {
            for (message, socket) in messages {
                successor.send(message, socket);
            }
            successor.send(ToSuccessor::All { watchdog, workers }, None);
            report::log!(
                debug,
                pid = successor.pid,
                "upgrading: everything is handed over"
            );
        }
    }

    fn name_successor(&mut self) {
        let (
            Some(Ongoing {
                number, successor, ..
            }),
            Some(systemd),
        ) = (&self.upgrading.ongoing, &self.systemd)
        else {
            return self.handover(Event::Named);
        };
        successor.leave_unreaped();
        match systemd.succeeded_by(successor.pid) {
            Ok(barrier) => {
                let (inbox, number) = (self.supervisor.clone(), *number);
                tokio::spawn(async move {
                    let passed = barrier.passed().await;
                    let _ = inbox.send(Input::Other(Other::Named(number, passed)));
                });
            }
            Err(error) => self.handover(Event::NotNamed(error.to_string())),
        }
    }

    /// The successor serves. This supervisor removes nothing and tells the service manager nothing any more.
    fn release(&mut self) {
        let Some(Ongoing { successor, .. }) = &self.upgrading.ongoing else {
            return;
        };
        let pid = successor.pid;
        self.sockets.own_files(false);
        self.systemd = None;
        #[cfg(feature = "monitor")]
        if let Some((_, gate)) = &self.upgrading.reception {
            gate.leave();
        }
        successor.leave_unreaped();
        successor.send(ToSuccessor::Released, None);
        report::log!(
            info,
            pid,
            "upgraded: the new supervisor (process {pid}) serves, and this one stops its workers"
        );
        #[cfg(feature = "monitor")]
        self.note_upgraded(pid);
        self.arisen.push_back(policy::Event::Succeeded);
    }

    /// Nothing is parked while another supervisor has the same sockets.
    fn share_sockets(&mut self) {
        let heir = self.upgrading.heir.as_ref();
        let with_predecessor = heir.is_some_and(|heir| !heir.succession.is_alone());
        let with_successor = self.upgrading.ongoing.is_some();
        self.sockets
            .share_with_another(with_predecessor || with_successor);
    }

    /// What the predecessor has is there for the workers. To be called before there are any, in a runtime.
    pub(super) fn inherit(&mut self, heir: Heir) {
        let Heir {
            estate,
            watchdog,
            workers,
            entrances,
            end,
        } = heir;
        self.upgrading.unwanted = entrances;
        if let Err(error) = self.sockets.succeed(estate) {
            report::log!(error, %error, "what was handed over can't be used: {error}");
        }
        if let Some(systemd) = &mut self.systemd {
            systemd.wait_for_release(watchdog);
        }
        self.upgrading.scaled = workers.is_some();
        let inbox = self.supervisor.clone();
        let predecessor = attend(end, move |heard| {
            let _ = inbox.send(Input::Other(Other::Predecessor(heard)));
        });
        self.upgrading.heir = Some(Succeeding {
            succession: Succession::default(),
            predecessor,
        });
    }

    /// All workers and extras are ready.
    pub(super) fn ready_to_succeed(&mut self) {
        self.succeed(succession::Event::Ready);
    }

    /// The predecessor is told, as long as it may be why this supervisor doesn't take over.
    pub(super) fn tell_predecessor(&self, failure: &str) {
        if let Some(heir) = &self.upgrading.heir {
            if !heir.succession.serves() {
                let failure = failure.to_owned();
                let _ = heir.predecessor.send(ToPredecessor::Failing(failure));
            }
        }
    }

    fn succeed(&mut self, event: succession::Event) {
        let Some(heir) = &mut self.upgrading.heir else {
            return;
        };
        for action in heir.succession.on(event) {
            match action {
                succession::Action::SayReady => {
                    if let Some(heir) = &self.upgrading.heir {
                        // One that is gone is heard of.
                        let _ = heir.predecessor.send(ToPredecessor::Ready);
                    }
                }
                succession::Action::TakeOver { orphaned } => self.take_over(orphaned),
                succession::Action::Alone => self.share_sockets(),
            }
        }
    }

    fn take_over(&mut self, orphaned: bool) {
        match orphaned {
            true => report::log!(
                warn,
                "the supervisor that is to be replaced has died; this one goes on in its place"
            ),
            false => report::log!(
                info,
                "upgraded: this supervisor serves in the place of the old one"
            ),
        }
        self.sockets.own_files(true);
        let (slots, extras) = (self.policy.target(), self.config.extra_sync.len());
        self.sockets.close_orphans(|role| match role {
            Role::Slot(slot) => slot < slots,
            Role::Extra(extra) => extra < extras,
        });
        if self.policy.standing().phase == Phase::Serving {
            self.sockets.close_unasked();
        }
        let Entrances { door, .. } = std::mem::take(&mut self.upgrading.unwanted);
        if let Some(door) = door {
            door.remove_file();
        }
        #[cfg(feature = "monitor")]
        if let Some((_, gate)) = &self.upgrading.reception {
            gate.open();
        }
        if let Some(systemd) = &mut self.systemd {
            systemd.released();
        }
    }
}
