//! What the supervisor logs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::driver::Supervisor;
use super::live::Live;
use super::policy::{Report, WorkerId};
use super::who::{Who, about};
use crate::panic;
use crate::server::line::{Failure, Role};
use crate::server::report;

impl Supervisor {
    pub(super) fn tell_failure(&mut self, who: &Who, starting: bool, failure: &Failure) {
        let cause = failure.to_string();
        let Who { name, pid, .. } = who;
        // When the server goes down because no worker can start, all of them say the same.
        if starting && self.stopping && self.told.contains(&cause) {
            about!(
                who,
                info,
                { cause = cause.as_str() },
                "{name} (pid {pid}) failed likewise"
            );
            return;
        }
        about!(
            who,
            failure,
            { cause = cause.as_str() },
            "{name} (pid {pid}) failed: {cause}"
        );
        self.failed(format!("{name} failed: {cause}"));
        #[cfg(feature = "monitor")]
        self.note_failure(who, &cause);
        if !self.stopping {
            self.told.clear();
        }
        self.told.insert(cause);
    }

    /// For those who aren't told by the log.
    fn failed(&mut self, failure: String) {
        self.notice(|| format!("last failure: {failure}"));
        #[cfg(feature = "process")]
        self.tell_predecessor(&failure);
        self.teller.failed(|| failure);
    }

    /// A role, and the process in which it is filled.
    pub(super) fn who(&self, role: Role, pid: u32) -> Who {
        let name = self.job.name(role);
        Who {
            role: match role {
                Role::Slot(_) => "worker".to_owned(),
                Role::Extra(_) => name.clone(),
            },
            worker: role.index(),
            name,
            pid,
        }
    }

    fn worker(&self, id: WorkerId) -> Who {
        match self.workers.get(&id) {
            Some(live) => self.who(live.role, live.seat.pid()),
            None => Who {
                name: "a worker".to_owned(),
                role: "worker".to_owned(),
                worker: None,
                pid: std::process::id(),
            },
        }
    }

    fn tell_ready(&mut self) {
        // Until then it is the predecessor's too.
        #[cfg(feature = "process")]
        let waits = self.upgrading.is_waiting();
        #[cfg(not(feature = "process"))]
        let waits = false;
        if !waits {
            self.sockets.close_unasked();
        }
        let addresses = self.sockets.addresses();
        if let Some(on_ready) = self.on_ready.take() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| on_ready(&addresses))) {
                let panic = panic::into_text(panic);
                report::failure(format_args!("`on_ready` panicked: {panic}"));
            }
        }
        self.teller.listens(addresses);
        self.teller.ready();
        #[cfg(feature = "process")]
        self.ready_to_succeed();
    }

    pub(super) fn report(&mut self, report: Report) {
        self.notice_report(&report);
        #[cfg(feature = "monitor")]
        self.note_report(report);
        match report {
            Report::AllReady => {
                self.tell_all_ready();
                self.tell_ready();
            }
            Report::Going { reason, delay } => {
                self.teller.going();
                report::log!(
                    info,
                    { cause = %reason, ?delay },
                    "going: {reason}; everything is still served, and the stop begins in {delay:?}"
                );
            }
            Report::Refused(refused) => {
                report::log!(warn, "{refused} refused: the server is about to stop");
            }
            Report::Stopping { reason, by } => {
                self.teller.going();
                self.stopping = true;
                let budget = by.saturating_sub(self.now());
                report::log!(
                    info,
                    { cause = %reason },
                    "stopping: {reason}; all is to end within {budget:.1?}"
                );
            }
            Report::UpgradeUnderWay => {
                report::log!(warn, "upgrade refused: one is under way");
            }
            Report::SuccessorDied => {
                report::log!(warn, "what is left of this server is killed");
            }
            Report::Forced(signal) => {
                report::log!(warn, { cause = %signal }, "{signal} again: stopping at once");
                #[cfg(feature = "process")]
                self.force_upgrade();
            }
            Report::StartTimedOut(id) => {
                let (who, timeout) = (self.worker(id), self.config.start_timeout);
                let name = &who.name;
                about!(who, failure, {}, "{name} was not ready within {timeout:?}");
                self.failed(format!("{name} was not ready within {timeout:?}"));
            }
            Report::StopTimedOut(id) => {
                let who = self.worker(id);
                about!(
                    who,
                    failure,
                    {},
                    "{} did not stop by its deadline",
                    who.name
                );
            }
            Report::MainTimedOut => {
                let who = Who::main();
                about!(
                    who,
                    failure,
                    {},
                    "{} was not left by its deadline",
                    who.name
                );
            }
            Report::Stuck { id, total } => {
                let who = self.worker(id);
                about!(
                    who,
                    failure,
                    { stuck = total },
                    "{} is stuck: its event loop is blocked and can't be ended ({total} so far)",
                    who.name
                );
            }
            Report::ReturnedUnasked(id) => {
                let who = self.worker(id);
                let (name, pid) = (&who.name, who.pid);
                about!(
                    who,
                    failure,
                    { cause = "returned unasked" },
                    "{name} (pid {pid}) returned although it had not been asked to stop"
                );
                self.failed(format!(
                    "{name} returned although it had not been asked to stop"
                ));
            }
            Report::Backoff { role, delay } => {
                let (worker, name) = (role.index(), self.who(role, 0));
                report::log!(
                    warn,
                    {
                        worker,
                        role = name.role.as_str(),
                        restarts = self.starts(role),
                        ?delay
                    },
                    "{} is started again in {delay:?}",
                    name.name
                );
            }
            Report::TooManyFailures { role, failures } => {
                let (window, limit) = (self.config.restart_window, self.config.max_restarts);
                let (worker, who) = (role.index(), self.who(role, 0));
                report::failed!(
                    {
                        worker,
                        role = who.role.as_str(),
                        restarts = self.starts(role).saturating_sub(1),
                        failures
                    },
                    "{} failed {failures} times within {window:?}, more than {limit} times: the server stops",
                    who.name
                );
            }
            Report::SettingsMayDiffer(role) => {
                let (worker, who) = (role.index(), self.who(role, 0));
                report::log!(
                    warn,
                    { worker, role = who.role.as_str() },
                    "{} reads its settings anew, and a rolling restart was given up: they may be newer than those of \
                     the other workers",
                    who.name
                );
            }
            Report::ExtraEnded(role) => {
                let who = self.who(role, 0);
                report::log!(info, { role = who.role.as_str() }, "{} has ended", who.name);
            }
            Report::Vacant(role) => {
                let (worker, who) = (role.index(), self.who(role, 0));
                report::log!(
                    warn,
                    { worker, role = who.role.as_str() },
                    "the server goes on without {}",
                    who.name
                );
            }
            Report::RollStarted { slots, .. } => {
                report::log!(info, { workers = slots }, "rolling restart");
            }
            Report::Recycling { role, worn } => {
                let who = self.who(role, 0);
                report::log!(
                    info,
                    { worker = who.worker, role = who.role.as_str(), cause = %worn },
                    "{} is recycled: {worn}",
                    who.name
                );
            }
            Report::RollDone => report::log!(info, "rolling restart done"),
            Report::NotRestarted(role) => {
                let (worker, who) = (role.index(), self.who(role, 0));
                report::log!(
                    warn,
                    { worker, role = who.role.as_str() },
                    "{} is not restarted: it is not to run any more",
                    who.name
                );
            }
            Report::RollGivenUp { role, mixed } => report::failed!(
                { worker = role.index(), role = self.who(role, 0).role.as_str() },
                "rolling restart given up: the successor of {} failed to start{}",
                self.job.name(role),
                // Threads run what the supervisor runs.
                if mixed && self.seats.can_kill() {
                    "; workers now run different versions"
                } else {
                    ""
                }
            ),
            Report::Scaled { from, to } => {
                report::log!(info, { from, to }, "number of workers changed");
            }
            Report::ScaleGivenUp { slot } => report::failed!(
                { worker = slot, role = "worker" },
                "worker {slot} is not added, because it failed to start: the number of workers is {slot}"
            ),
            Report::ScaleLimit { workers } => {
                report::log!(warn, { workers }, "number of workers is at its limit");
            }
        }
    }

    /// How often a role has been filled.
    fn starts(&self, role: Role) -> u64 {
        self.generations.get(&role).map_or(0, |last| last + 1)
    }

    fn tell_all_ready(&self) {
        let is_ready = |live: &&Live| live.ready && matches!(live.role, Role::Slot(_));
        let workers = self.workers.values().filter(is_ready).count();
        let addr: Vec<String> = self.sockets.names().map(|name| name.to_string()).collect();
        let (addr, are) = (
            addr.join(", "),
            if workers == 1 {
                "worker is"
            } else {
                "workers are"
            },
        );
        match addr.is_empty() {
            true => report::log!(info, { workers }, "{workers} {are} ready"),
            false => report::log!(
                info,
                { workers, addr = addr.as_str() },
                "{workers} {are} ready, listening on {addr}"
            ),
        }
    }
}
