//! What the supervisor logs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::driver::Supervisor;
use super::live::Live;
use super::policy::{Report, WorkerId};
use crate::panic;
use crate::server::line::{Failure, Role};
use crate::server::report;

impl Supervisor {
    pub(super) fn tell_failure(&mut self, name: &str, pid: u32, starting: bool, failure: &Failure) {
        let cause = failure.to_string();
        // When the server goes down because no worker can start, all of them say the same.
        if starting && self.stopping && self.told.contains(&cause) {
            report::log!(info, "{name} (pid {pid}) failed likewise");
            return;
        }
        report::failure(format_args!("{name} (pid {pid}) failed: {cause}"));
        self.teller.failed(|| format!("{name} failed: {cause}"));
        if !self.stopping {
            self.told.clear();
        }
        self.told.insert(cause);
    }

    fn tell_ready(&mut self) {
        let addresses = self.sockets.addresses();
        if let Some(on_ready) = self.on_ready.take() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| on_ready(&addresses))) {
                let panic = panic::into_text(panic);
                report::failure(format_args!("`on_ready` panicked: {panic}"));
            }
        }
        self.teller.listens(addresses);
        self.teller.ready();
    }

    pub(super) fn worker_name(&self, id: WorkerId) -> String {
        match self.workers.get(&id) {
            Some(live) => self.job.name(live.role),
            None => "a worker".to_owned(),
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        match report {
            Report::AllReady => {
                let is_ready = |live: &&Live| live.ready && matches!(live.role, Role::Slot(_));
                let workers = self.workers.values().filter(is_ready).count();
                let listening: Vec<String> =
                    self.sockets.names().map(|name| name.to_string()).collect();
                let plural = if workers == 1 {
                    "worker is"
                } else {
                    "workers are"
                };
                match listening.is_empty() {
                    true => report::log!(info, "{workers} {plural} ready"),
                    false => report::log!(
                        info,
                        "{workers} {plural} ready, listening on {}",
                        listening.join(", ")
                    ),
                }
                self.tell_ready();
            }
            Report::Stopping { reason, by } => {
                self.stopping = true;
                let budget = by.saturating_sub(self.now());
                report::log!(
                    info,
                    "stopping: {reason}; all is to end within {budget:.1?}"
                );
            }
            Report::Forced(signal) => report::log!(warn, "{signal} again: stopping at once"),
            Report::StartTimedOut(id) => report::failure(format_args!(
                "{} was not ready within {:?}",
                self.worker_name(id),
                self.config.start_timeout
            )),
            Report::StopTimedOut(id) => {
                report::failure(format_args!(
                    "{} did not stop by its deadline",
                    self.worker_name(id)
                ));
            }
            Report::MainTimedOut => report::failure(format_args!(
                "the main context was not left by its deadline"
            )),
            Report::Stuck { id, total } => report::failure(format_args!(
                "{} is stuck: its event loop is blocked and can't be ended ({total} so far)",
                self.worker_name(id)
            )),
            Report::ReturnedUnasked(id) => {
                let pid = self.workers.get(&id).map_or(0, |live| live.seat.pid());
                report::failure(format_args!(
                    "{} (pid {pid}) returned although it had not been asked to stop",
                    self.worker_name(id)
                ));
            }
            Report::Backoff { role, delay } => {
                report::log!(
                    warn,
                    "{} is started again in {delay:?}",
                    self.job.name(role)
                );
            }
            Report::TooManyFailures { role, failures } => report::failure(format_args!(
                "{} failed {failures} times within {:?}, more than {} times: the server stops",
                self.job.name(role),
                self.config.restart_window,
                self.config.max_restarts
            )),
            Report::SettingsMayDiffer(role) => report::log!(
                warn,
                "{} reads its settings anew, and a rolling restart was given up: they may be newer than those of the \
                 other workers",
                self.job.name(role)
            ),
            Report::ExtraEnded(role) => report::log!(info, "{} has ended", self.job.name(role)),
            Report::Vacant(role) => {
                report::log!(warn, "the server goes on without {}", self.job.name(role))
            }
            Report::RollStarted { slots, .. } => {
                report::log!(info, workers = slots, "rolling restart")
            }
            Report::RollDone => report::log!(info, "rolling restart done"),
            Report::RollGivenUp { role, mixed } => report::failure(format_args!(
                "rolling restart given up: the successor of {} failed to start{}",
                self.job.name(role),
                // Threads run what the supervisor runs.
                if mixed && self.seats.can_kill() {
                    "; workers now run different versions"
                } else {
                    ""
                }
            )),
            Report::Scaled { from, to } => {
                report::log!(info, from, to, "number of workers changed")
            }
            Report::ScaleGivenUp { slot } => report::failure(format_args!(
                "worker {slot} is not added, because it failed to start: the number of workers is {slot}"
            )),
            Report::ScaleLimit { workers } => {
                report::log!(warn, workers, "number of workers is at its limit")
            }
        }
    }
}
