//! What the supervisor shows to those who look into the server, and does for them.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::asked::Asked;
use super::driver::Supervisor;
use super::journal::{Entry, Step};
use super::live::History;
use super::looks::{Act, Answered, Asking, Look, TooMany};
use super::policy::{Event, Image, Report, WorkerId};
use super::sockets::Holding;
use super::view::{Place, Roll, Socket, View, WorkerView};
use super::who::Who;
use crate::server::line::{Happened, Query, Role};
use crate::server::report;

/// How many questions may wait for a worker's answer, and how many of its commands for their end.
const QUERIES: usize = 8;

impl Supervisor {
    pub(super) fn look(&mut self, look: Look) {
        // Who has asked may be gone again.
        match look {
            Look::View(reply) => drop(reply.send(self.view())),
            Look::Query(id, query, reply) => self.query(id, query, reply),
            Look::Act(act, reply) => {
                let before = self.looks.journal().map_or(0, |journal| journal.newest());
                match act {
                    Act::Reload => self.asked(Asked::Reload),
                    Act::Scale(workers) => self.asked(Asked::Scale(workers)),
                    Act::Upgrade => self.asked(Asked::Upgrade),
                    Act::Drain => {
                        self.note_request("a stop after the delay is requested");
                        self.happened(Event::Drain);
                    }
                    Act::Stop => {
                        self.note_request("a stop is requested");
                        self.happened(Event::StopWithoutDelay);
                    }
                    Act::Restart(role) => self.happened(Event::Restart(role)),
                }
                let _ = reply.send(before);
            }
        }
    }

    fn query(&mut self, id: WorkerId, query: Query, reply: oneshot::Sender<Answered>) {
        let takes_its_time = query.takes_its_time();
        let open = self
            .queries
            .values()
            .filter(|query| query.of == id && query.takes_its_time == takes_its_time);
        if open.count() >= QUERIES {
            let _ = reply.send(Err(TooMany));
            return;
        }
        // Of one that is gone, dropping the reply tells so.
        if let Some(live) = self.workers.get(&id) {
            self.next_query += 1;
            let asking = Asking {
                of: id,
                takes_its_time,
                reply,
            };
            self.queries.insert(self.next_query, asking);
            live.seat.query(self.next_query, query);
        }
    }

    pub(super) fn answered(&mut self, number: u64, answer: Vec<u8>) {
        if let Some(asking) = self.queries.remove(&number) {
            let _ = asking.reply.send(Ok(answer));
        }
    }

    pub(super) fn last_figures(&self, id: WorkerId, figures: Vec<u8>) {
        if let Some(live) = self.workers.get(&id) {
            self.looks.tell_last((id, live.role, figures));
        }
    }

    fn view(&self) -> View {
        let now = self.now();
        let ((wanted, most), phase) = (self.policy.wanted(), self.policy.phase());
        let workers = self.workers.iter().map(|(id, live)| {
            let (lag, blocked) = live.pulse.lag(now);
            WorkerView {
                id: *id,
                role: live.role,
                pid: live.seat.pid(),
                generation: live.history.generation,
                image: live.history.image,
                state: live.history.state,
                since: now.saturating_sub(live.history.since),
                turning: live.turning,
                lag,
                blocked,
            }
        });
        let places = self.policy.roles(now).into_iter();
        let places = places.map(|(role, out, retry_in)| {
            let name = self.job.name(role);
            let failed = self.failures.get(&name);
            Place {
                role,
                out,
                retry_in,
                restarts: self.generations.get(&role).copied().unwrap_or(0),
                failures: failed.map_or(0, |failed| failed.0),
                last_failure: failed.map(|(_, at, cause)| (*at, cause.clone())),
                name,
            }
        });
        let sockets = self.sockets.holders().into_iter();
        let sockets = sockets.map(|(address, held)| Socket {
            address,
            held: held
                .into_iter()
                .map(|(role, holding)| (role, self.holding(holding)))
                .collect(),
        });
        View {
            state: phase.name(),
            was_ready: self.was_ready,
            going: phase.is_going(),
            replaced: self.is_replaced(),
            target: self.policy.target(),
            wanted,
            most,
            roll: self
                .policy
                .rolling()
                .map(|(only, remaining, draining)| Roll {
                    only,
                    remaining,
                    draining,
                }),
            sockets: sockets.collect(),
            workers: workers.collect(),
            places: places.collect(),
        }
    }

    fn holding(&self, holding: Holding) -> String {
        match holding {
            Holding::Held => "held".to_owned(),
            Holding::LentTo(role) => format!("lent to {}", self.job.name(role)),
            Holding::Parked => "parked".to_owned(),
            Holding::Waiting => "waiting".to_owned(),
        }
    }

    /// Of a worker that is just started.
    pub(super) fn history(&self, role: Role, image: Image) -> History {
        let now = self.now();
        History {
            generation: self.generations.get(&role).copied().unwrap_or(0),
            image: image.0,
            state: "starting",
            since: now,
        }
    }

    /// Remembers since when workers are in the states in which they are.
    pub(super) fn note_states(&mut self) {
        if self.looks.journal().is_none() {
            return;
        }
        let now = self.now();
        for (id, live) in &mut self.workers {
            let state = self.policy.phase_name(*id);
            if live.history.state != state {
                (live.history.state, live.history.since) = (state, now);
            }
        }
    }

    fn note(&self, who: Option<&Who>, kind: &'static str, text: String, step: Option<Step>) {
        let Some(journal) = self.looks.journal() else {
            return;
        };
        journal.note(Entry {
            number: 0,
            at: SystemTime::now(),
            kind,
            worker: who.and_then(|who| who.worker),
            role: who.map(|who| who.role.clone()),
            pid: who.map(|who| who.pid).filter(|pid| *pid != 0),
            text,
            step,
        });
    }

    pub(super) fn note_worker(&self, id: WorkerId, kind: &'static str, does: &str) {
        if let Some(live) = self.workers.get(&id) {
            let who = self.who(live.role, live.seat.pid());
            let text = format!("{} {does}", who.name);
            self.note(Some(&who), kind, text, None);
        }
    }

    /// What has gone wrong in a worker's background.
    pub(super) fn note_happened(&self, id: WorkerId, told: &[u8]) {
        let (Some(live), Some(journal)) = (self.workers.get(&id), self.looks.journal()) else {
            return;
        };
        let told: Vec<Happened> = match serde_json::from_slice(told) {
            Ok(told) => told,
            Err(error) => {
                report::log!(warn, %error, "what a worker tells can't be understood");
                return;
            }
        };
        let who = self.who(live.role, live.seat.pid());
        for Happened { kind, at, text } in told {
            journal.note(Entry {
                number: 0,
                at,
                kind: match &*kind {
                    "tick" => "tick",
                    _ => "teardown",
                },
                worker: who.worker,
                role: Some(who.role.clone()),
                pid: Some(who.pid),
                text: format!("{}: {text}", who.name),
                step: None,
            });
        }
    }

    pub(super) fn note_failure(&mut self, who: &Who, cause: &str) {
        if self.looks.journal().is_none() {
            return;
        }
        let failures = self.failures.entry(who.name.clone());
        let failed = failures.or_insert_with(|| (0, SystemTime::now(), String::new()));
        *failed = (failed.0 + 1, SystemTime::now(), cause.to_owned());
        let text = format!("{} failed: {cause}", who.name);
        self.note(Some(who), "failed", text, None);
    }

    pub(super) fn note_asked(&self, asked: Asked) {
        let text = match asked {
            Asked::Stop(signal) => signal.to_string(),
            Asked::StopRequested => "a stop is requested".to_owned(),
            Asked::Reload => "a rolling restart is requested".to_owned(),
            Asked::ScaleUp => "one worker more is requested".to_owned(),
            Asked::ScaleDown => "one worker fewer is requested".to_owned(),
            Asked::Scale(workers) => format!("{workers} workers are requested"),
            Asked::Tell => "SIGUSR1 is told to all workers".to_owned(),
            Asked::Upgrade => "an upgrade is requested".to_owned(),
        };
        self.note_request(text);
    }

    fn note_request(&self, text: impl Into<String>) {
        self.note(None, "signal", text.into(), None);
    }

    pub(super) fn note_upgrade_refused(&self, why: &str) {
        let text = format!("upgrade refused: {why}");
        self.note(None, "upgrade", text, Some(Step::UpgradeFailed));
    }

    #[cfg(feature = "process")]
    pub(super) fn note_upgrade_failed(&self, cause: &str) {
        let text = format!("upgrade failed: {cause}");
        self.note(None, "upgrade", text, Some(Step::UpgradeFailed));
    }

    #[cfg(feature = "process")]
    pub(super) fn note_upgraded(&self, pid: u32) {
        let text = format!("upgraded: the new supervisor is process {pid}");
        self.note(None, "upgrade", text, Some(Step::Upgraded));
    }

    pub(super) fn note_report(&mut self, report: Report) {
        self.was_ready |= report == Report::AllReady;
        if self.looks.journal().is_none() {
            return;
        }
        let of = |role: Role| self.who(role, 0);
        let by_id = |id: WorkerId| {
            let live = self.workers.get(&id);
            live.map(|live| self.who(live.role, live.seat.pid()))
        };
        let named = |who: &Option<Who>| match who {
            Some(who) => who.name.clone(),
            None => "a worker".to_owned(),
        };
        let (who, kind, text, step) = match report {
            Report::AllReady => (None, "ready", "all workers are ready".to_owned(), None),
            Report::Going { reason, delay } => {
                let text = format!("going: {reason}; the stop begins in {delay:?}");
                (None, "stopping", text, Some(Step::Stopping))
            }
            Report::Refused(refused) => {
                let text = format!("{refused} refused: the server is about to stop");
                (None, "stopping", text, Some(Step::Stopping))
            }
            Report::Stopping { reason, by } => {
                let budget = by.saturating_sub(self.now());
                let text = format!("stopping: {reason}; all is to end within {budget:.1?}");
                (None, "stopping", text, Some(Step::Stopping))
            }
            Report::UpgradeUnderWay => {
                let text = "upgrade refused: one is under way".to_owned();
                (None, "upgrade", text, None)
            }
            Report::SuccessorDied => {
                let text = "the new supervisor has died".to_owned();
                (None, "failed", text, None)
            }
            Report::Forced(signal) => {
                let text = format!("{signal} again: stopping at once");
                (None, "stopping", text, Some(Step::Stopping))
            }
            Report::StartTimedOut(id) => {
                let (who, timeout) = (by_id(id), self.config.start_timeout);
                let text = format!("{} was not ready within {timeout:?}", named(&who));
                (who, "failed", text, None)
            }
            Report::StopTimedOut(id) => {
                let who = by_id(id);
                let text = format!("{} did not stop by its deadline", named(&who));
                (who, "failed", text, None)
            }
            Report::MainTimedOut => {
                let text = "the main context was not left by its deadline".to_owned();
                (Some(Who::main()), "failed", text, None)
            }
            Report::Stuck { id, .. } => {
                let who = by_id(id);
                let text = format!("{} is stuck: its event loop is blocked", named(&who));
                (who, "failed", text, None)
            }
            Report::ReturnedUnasked(id) => {
                let who = by_id(id);
                let text = format!("{} returned unasked", named(&who));
                (who, "failed", text, None)
            }
            Report::Backoff { role, delay } => {
                let who = of(role);
                let text = format!("{} is started again in {delay:?}", who.name);
                (Some(who), "backoff", text, None)
            }
            Report::TooManyFailures { role, failures } => {
                let who = of(role);
                let text = format!("{} failed {failures} times: the server stops", who.name);
                (Some(who), "failed", text, None)
            }
            Report::SettingsMayDiffer(role) => {
                let who = of(role);
                let text = format!("{} may read newer settings than the others", who.name);
                (Some(who), "started", text, None)
            }
            Report::Vacant(role) => {
                let who = of(role);
                let text = format!("the server goes on without {}", who.name);
                (Some(who), "failed", text, None)
            }
            Report::ExtraEnded(role) => {
                let who = of(role);
                let text = format!("{} has come to its own end", who.name);
                (Some(who), "ended", text, None)
            }
            Report::RollStarted { only, .. } => {
                let text = match only {
                    Some(role) => format!("{} is being restarted", of(role).name),
                    None => "rolling restart".to_owned(),
                };
                (None, "roll", text, Some(Step::RollStarted(only)))
            }
            Report::Recycling { role, worn } => {
                let who = of(role);
                let text = format!("{} is recycled: {worn}", who.name);
                (Some(who), "recycle", text, None)
            }
            Report::RollDone => {
                let text = "rolling restart done".to_owned();
                (None, "roll", text, Some(Step::RollDone))
            }
            Report::NotRestarted(role) => {
                let who = of(role);
                let text = format!("{} is not restarted: it is not to run any more", who.name);
                (Some(who), "roll", text, Some(Step::NotRestarted(role)))
            }
            Report::RollGivenUp { role, .. } => {
                let who = of(role);
                let text = format!(
                    "rolling restart given up: the successor of {} failed to start",
                    who.name
                );
                (Some(who), "roll", text, Some(Step::RollGivenUp(role)))
            }
            Report::Scaled { from, to } => {
                let text = format!("number of workers changed from {from} to {to}");
                (None, "scale", text, None)
            }
            Report::ScaleGivenUp { slot } => {
                let who = of(Role::Slot(slot));
                let text = format!("{} is not added, because it failed to start", who.name);
                (Some(who), "scale", text, Some(Step::ScaleGivenUp))
            }
            Report::ScaleLimit { workers } => {
                let text = format!("number of workers is at its limit of {workers}");
                (None, "scale", text, None)
            }
        };
        self.note(who.as_ref(), kind, text, step);
    }
}
