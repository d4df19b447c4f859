//! Carries out what the policy decides.

use std::collections::BTreeMap;
#[cfg(feature = "timer")]
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::driver::Supervisor;
use super::inbox::Input;
use super::live::Live;
use super::policy::{Action, Ending, Event, Image, WorkerId};
use super::pulse::Pulse;
use super::seats::{self, Seat, Thread};
use super::sockets::Order;
use super::systemd::Barrier;
use super::wear::Wear;
use super::who::{MAIN, Who};
use crate::server::job::Run;
use crate::server::line::{Answer, Failure, Identity, Line, Loan, Request, Role, Told};
#[cfg(feature = "timer")]
use crate::server::line::{Reply, SingleCall};
use crate::server::stop::without_reserve;
use crate::server::{Isolation, Stop, StopReason, report};

impl Supervisor {
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        // First: any of these may write a log line, and wait for ever for somebody to read it.
        self.set_watchdog();
        // Of roles that are given up: until then systemd has their sockets, too.
        let mut barriers = BTreeMap::new();
        for action in actions {
            match action {
                Action::EnterMain => self.enter_main(),
                Action::DropEnter { reason, by } | Action::LeaveMain { reason, by } => {
                    self.leave_main(reason, by)
                }
                Action::Spawn { id, role, image } => self.spawn(id, role, image),
                Action::Stop { id, reason, by } => {
                    let stop = self.stop(reason, by);
                    self.sockets.leaving(id);
                    self.turns.leave(id);
                    let role = self.workers.get(&id).map(|live| live.role);
                    self.held_stops.insert(id, stop);
                    match role.and_then(|role| barriers.remove(&role)) {
                        Some(barrier) => self.stop_after(barrier, id),
                        None => self.pass_on_stop(id),
                    }
                }
                Action::Kill(id) => {
                    self.sockets.leaving(id);
                    self.turns.leave(id);
                    if let Some(live) = self.workers.get(&id) {
                        live.seat.kill();
                    }
                }
                Action::Close(role) => {
                    self.sockets.close(role);
                    let barrier = self.keep_no_more();
                    barriers.extend(barrier.map(|barrier| (role, barrier)));
                }
                Action::CloseUnasked(id) => self.sockets.ready(id),
                Action::Park(role) => self.sockets.park(role),
                Action::TellGoing(id) => {
                    if let Some(live) = self.workers.get(&id) {
                        live.seat.go();
                    }
                }
                Action::Tell(id) => {
                    if let Some(live) = self.workers.get(&id) {
                        live.seat.tell();
                    }
                }
                Action::Report(report) => self.report(report),
                Action::Exit(code) => {
                    report::log!(info, code, "the server has ended");
                    self.exit = Some(code);
                }
            }
        }
    }

    /// Until systemd has let go of the worker's sockets it may be given connections, which only this worker accepts.
    fn stop_after(&self, barrier: Barrier, id: WorkerId) {
        let supervisor = self.supervisor.clone();
        tokio::spawn(async move {
            if !barrier.passed().await {
                report::log!(warn, "systemd is slow in letting go of sockets");
            }
            // A supervisor that is gone has ended the server.
            let _ = supervisor.send(Input::LetGo(id));
        });
    }

    pub(super) fn pass_on_stop(&mut self, id: WorkerId) {
        let stop = self.held_stops.remove(&id);
        if let Some((live, stop)) = self.workers.get_mut(&id).zip(stop) {
            live.seat.stop(stop);
        }
    }

    /// Has the end enforced, once there is one to come.
    pub(super) fn set_watchdog(&mut self) {
        let Some(end) = self.policy.hard_end() else {
            return;
        };
        let at = self.at(end).into_std();
        #[cfg(feature = "process")]
        self.watchdog
            .guard(self.workers.values().filter_map(|live| live.seat.killer()));
        self.watchdog.set(at, self.policy.exit_code());
    }

    pub(super) fn spawn(&mut self, id: WorkerId, role: Role, image: Image) {
        self.sockets.begin(id, role);
        match self.try_spawn(id, role, image) {
            Ok(seat) => {
                let has_loop = match role {
                    Role::Slot(_) => true,
                    Role::Extra(extra) => !self.config.extra_sync[extra],
                };
                let live = Live {
                    role,
                    turning: false,
                    // Without a loop it counts as ready at start.
                    ready: !has_loop,
                    refused: false,
                    ending: false,
                    pulse: Pulse::default(),
                    wear: Wear::spread(fastrand::f64()),
                    #[cfg(feature = "monitor")]
                    history: self.history(role, image),
                    seat,
                };
                self.workers.insert(id, live);
                #[cfg(feature = "monitor")]
                self.note_worker(id, "started", "started");
            }
            Err(error) => {
                self.sockets.ended(id);
                self.turns.leave(id);
                let who = self.who(role, std::process::id());
                self.tell_failure(&who, true, &Failure::Spawn(error.to_string()));
                self.arisen.push_back(Event::Ended(id, Ending::Failed));
            }
        }
    }

    fn try_spawn(&mut self, id: WorkerId, role: Role, image: Image) -> io::Result<Seat> {
        let generation = *self
            .generations
            .entry(role)
            .and_modify(|generation| *generation += 1)
            .or_insert(0);
        self.seats.spawn(seats::Order {
            id,
            role,
            image,
            generation,
            count: self.policy.target(),
            to_completion: self.config.run_to_completion && matches!(role, Role::Slot(_)),
            patience: self.config.shutdown_timeout,
            job: &self.job,
            main: self.main_value.as_ref(),
            supervisor: &self.supervisor,
            #[cfg(feature = "monitor")]
            watched: self.looks.journal().is_some(),
        })
    }

    pub(super) fn enter_main(&mut self) {
        let Some(make) = self.job.main.take() else {
            return;
        };
        let (said, entered) = (self.supervisor.clone(), self.supervisor.clone());
        let to_processes = self.seats.can_kill();
        let run = Run {
            identity: Identity {
                index: None,
                name: MAIN.to_owned(),
                comm: "main context".to_owned(),
                count: self.policy.target(),
                generation: 0,
                isolation: Isolation::Thread,
                to_completion: None,
                max_connections: None,
            },
            // A supervisor that is gone has ended the server; nobody is left to be told.
            line: Line::new(move |message| drop(said.send(Input::Main(message)))),
            told: Arc::new(Told::default()),
            start: Box::new(move || {
                make(
                    Box::new(move |value| drop(entered.send(Input::MainEntered(value)))),
                    to_processes,
                )
            }),
            patience: self.config.shutdown_timeout,
            watcher: None,
            balanced: None,
        };
        match Thread::spawn(run, self.seats.carry_out) {
            Ok(thread) => self.main = Some(thread),
            Err(error) => {
                let failure = Failure::Spawn(error.to_string());
                self.tell_failure(&Who::main(), true, &failure);
                self.arisen.push_back(Event::MainFailed);
            }
        }
    }

    pub(super) fn leave_main(&mut self, reason: StopReason, by: Duration) {
        match &self.main {
            Some(main) => main.told.stop.set(self.stop(reason, by)),
            None => self.arisen.push_back(Event::MainLeft(Ending::Clean)),
        }
    }

    /// What a worker is told: a little less than the time that it really has.
    pub(super) fn stop(&self, reason: StopReason, by: Duration) -> Stop {
        let now = self.now();
        let told = now.saturating_add(without_reserve(by.saturating_sub(now)));
        Stop::new(reason, self.at(told))
    }

    /// Tells the workers what the last changes lend to them and take back.
    pub(super) fn pass_on_loans(&mut self) {
        for order in self.sockets.take_orders() {
            let (id, serving, loan) = match order {
                Order::Lend {
                    to,
                    serving,
                    loan: id,
                    socket,
                } => (to, serving, Loan::Lent { id, socket }),
                Order::TakeBack {
                    from,
                    serving,
                    loan: id,
                } => (from, serving, Loan::TakenBack { id }),
            };
            if let Some(live) = self.workers.get(&id) {
                live.seat.loan(serving, loan);
            }
        }
        for turn in self.turns.take_orders() {
            if let Some(live) = self.workers.get(&turn.worker) {
                live.seat.loan(turn.serving, Loan::Rest(turn.rests));
            }
        }
    }

    /// `None` is the main context.
    #[cfg(feature = "timer")]
    pub(super) fn answer_single(&mut self, by: Option<WorkerId>, call: SingleCall, reply: Reply) {
        let live = by.and_then(|id| self.workers.get(&id));
        let leaving = live.is_some_and(|live| live.seat.is_stopping());
        let (answer, free_for) = self.singles.answer(by, leaving, call);
        reply.send(answer);
        self.tell_free(free_for);
    }

    /// Nothing of the worker runs any more.
    #[cfg(feature = "timer")]
    pub(super) fn singles_ended(&mut self, who: Option<WorkerId>) {
        let free_for = self.singles.ended(who);
        self.tell_free(free_for);
    }

    #[cfg(feature = "timer")]
    fn tell_free(&self, workers: BTreeSet<Option<WorkerId>>) {
        for worker in workers {
            match worker {
                Some(id) => {
                    if let Some(live) = self.workers.get(&id) {
                        live.seat.free();
                    }
                }
                None => {
                    if let Some(main) = &self.main {
                        main.told.free();
                    }
                }
            }
        }
    }

    pub(super) fn answer(&mut self, id: WorkerId, request: Request) -> Answer {
        let answer = self.socket(id, request);
        if self.teller.is_watched() {
            self.teller.listens(self.sockets.addresses());
        }
        answer
    }

    fn socket(&mut self, id: WorkerId, request: Request) -> Answer {
        match request {
            Request::Listen { asked, addrs, all } => {
                self.sockets.listen(id, &asked, &addrs, all).map(Some)
            }
            Request::Named { kind, name } => self.sockets.named(id, kind, &name).map(Some),
            Request::ListenUnix { path, mode } => {
                self.sockets.listen_unix(id, &path, mode).map(Some)
            }
            Request::BindUdp { asked, addrs } => {
                self.sockets.bind_udp(id, &asked, &addrs).map(Some)
            }
            Request::Unlisten { asked } => match self.sockets.unlisten(id, &asked) {
                true => Ok(None),
                false => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("this worker holds no socket on `{asked}`"),
                )),
            },
        }
    }
}
