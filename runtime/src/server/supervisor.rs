//! The driver: carries what happens to the policy, and out what it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::event_loop::{Ended, Failure};
use super::job::{Extra, MakeWorker};
use super::link::{Answer, Input, Link, Message, Request};
use super::main_context::{MainValue, MakeMain};
use super::policy::{Action, Config, Ending, Event, Image, Policy, Report, Role, WorkerId};
use super::signals::{Asked, Signals};
use super::sockets::Sockets;
use super::thread::Thread;
use super::watchdog::Watchdog;
use super::worker::{Identity, Shared};
use super::{Isolation, Stop, StopReason, report};

/// The driver was out for at least this long: suspended, or stopped by a signal.
const GAP: Duration = Duration::from_secs(1);

/// A worker is told a deadline this much before its own end, but at most a tenth of its time, so that
/// what follows a drain that lasted to the deadline still runs.
const RESERVE: Duration = Duration::from_millis(500);

const MAIN: &str = "the main context";

/// What a server runs.
pub(crate) struct Job {
    pub(crate) make: MakeWorker,
    pub(crate) main: Option<MakeMain>,
    pub(crate) extras: Vec<Extra>,
}

pub(crate) struct Supervisor {
    policy: Policy,
    config: Config,
    epoch: Instant,
    job: Job,
    sockets: Sockets,
    main: Option<Thread>,
    main_value: Option<MainValue>,
    workers: BTreeMap<WorkerId, Live>,
    generations: BTreeMap<Role, u64>,
    inbox: mpsc::UnboundedReceiver<Input>,
    supervisor: mpsc::UnboundedSender<Input>,
    watchdog: Watchdog,
    /// The failure that made the server stop, and those told since.
    told: BTreeSet<String>,
    stopping: bool,
    exit: Option<i32>,
}

struct Live {
    role: Role,
    ready: bool,
    thread: Thread,
}

impl Supervisor {
    pub(crate) fn new(config: Config, job: Job, share_port: bool) -> Supervisor {
        let (supervisor, inbox) = mpsc::unbounded_channel();
        Supervisor {
            policy: Policy::new(config.clone()),
            config,
            epoch: Instant::now(),
            job,
            sockets: Sockets::new(share_port),
            main: None,
            main_value: None,
            workers: BTreeMap::new(),
            generations: BTreeMap::new(),
            inbox,
            supervisor,
            watchdog: Watchdog::default(),
            told: BTreeSet::new(),
            stopping: false,
            exit: None,
        }
    }

    /// Runs the server to its end and gives its exit code.
    pub(crate) async fn run(mut self, mut signals: Signals) -> i32 {
        let actions = self.policy.start(self.now());
        self.act(actions);
        loop {
            if let Some(code) = self.exit {
                return code;
            }
            let deadline = self
                .policy
                .next_deadline()
                .and_then(|at| self.epoch.checked_add(at));
            tokio::select! {
                // Signals are read before deaths, and both before deadlines are judged.
                biased;
                asked = signals.next() => self.signalled(asked),
                Some(input) = self.inbox.recv() => self.received(input),
                () = sleep_until(deadline) => {
                    let late = deadline.map_or(Duration::ZERO, |at| Instant::now().saturating_duration_since(at));
                    if late > GAP {
                        tracing::warn!(?late, "the supervisor was held up; all deadlines move by that");
                        self.policy.gap(late);
                    }
                    let actions = self.policy.tick(self.now());
                    self.act(actions);
                }
            }
            if let Some(end) = self
                .policy
                .hard_end()
                .and_then(|end| self.epoch.checked_add(end))
            {
                self.watchdog.set(end.into_std(), self.policy.exit_code());
            }
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn happened(&mut self, event: Event) {
        let actions = self.policy.on(self.now(), event);
        self.act(actions);
    }

    fn signalled(&mut self, asked: Asked) {
        self.happened(match asked {
            Asked::Stop(signal) => Event::StopSignal(signal),
            Asked::Reload => Event::Reload,
            Asked::ScaleUp => Event::ScaleUp,
            Asked::ScaleDown => Event::ScaleDown,
            Asked::Tell => Event::Tell,
        });
    }

    fn received(&mut self, input: Input) {
        match input {
            Input::Worker(id, message) => self.worker_said(id, message),
            Input::Main(message) => self.main_said(message),
            Input::MainEntered(value) => {
                self.main_value = Some(value);
                self.happened(Event::MainEntered);
            }
        }
    }

    fn worker_said(&mut self, id: WorkerId, message: Message) {
        match message {
            Message::Ready => {
                if let Some(live) = self.workers.get_mut(&id) {
                    live.ready = true;
                    tracing::debug!(worker = %live.thread.worker.name(), "ready");
                }
                self.happened(Event::Ready(id));
            }
            Message::Request(request, reply) => {
                let answer = self.answer(id, request);
                // The worker may have dropped its `listen`; the slot keeps the socket.
                let _ = reply.send(answer);
            }
            Message::Ended(ended) => {
                let Some(live) = self.workers.remove(&id) else {
                    return;
                };
                self.sockets.ended(id);
                let name = live.thread.worker.name().to_owned();
                let stopped_at_start = !live.ready && live.thread.worker.stop.get().is_some();
                live.thread.join();
                let ending = match ended.failure {
                    // It gets no more sockets and has to give up: that is what it was asked to do.
                    Some(Failure::Error(cause)) if stopped_at_start => {
                        tracing::info!("{name} was stopped while it was starting: {cause}");
                        Ending::Clean
                    }
                    _ => self.judge(&name, ended),
                };
                self.happened(Event::Ended(id, ending));
            }
        }
    }

    fn main_said(&mut self, message: Message) {
        match message {
            // It waits for its stop; that it was entered has been told.
            Message::Ready => {}
            Message::Request(_, reply) => {
                let _ = reply.send(Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the main context has no listening sockets",
                )));
            }
            Message::Ended(ended) => {
                let failed = self.judge(MAIN, ended) == Ending::Failed;
                if let Some(main) = self.main.take() {
                    main.join();
                }
                self.happened(match self.main_value {
                    None if failed => Event::MainFailed,
                    _ => Event::MainLeft { failed },
                });
            }
        }
    }

    fn enter_main(&mut self) {
        let Some(make) = self.job.main.take() else {
            return;
        };
        let identity = Identity {
            index: None,
            name: MAIN.to_owned(),
            count: self.policy.target(),
            generation: 0,
            isolation: Isolation::Thread,
            to_completion: None,
        };
        let link = Link::Main {
            supervisor: self.supervisor.clone(),
        };
        let body = make(self.supervisor.clone());
        match Thread::spawn(
            Shared::new(identity, link),
            body,
            self.config.shutdown_timeout,
        ) {
            Ok(thread) => self.main = Some(thread),
            Err(error) => {
                self.tell_failure(MAIN, &Failure::Spawn(error.to_string()));
                self.happened(Event::MainFailed);
            }
        }
    }

    fn leave_main(&mut self, reason: StopReason, by: Duration) {
        match &self.main {
            Some(main) => main.worker.stop.set(self.stop(reason, by)),
            None => self.happened(Event::MainLeft { failed: false }),
        }
    }

    /// What a worker is told: a little less than the time that it really has.
    fn stop(&self, reason: StopReason, by: Duration) -> Stop {
        let reserve = (by.saturating_sub(self.now()) / 10).min(RESERVE);
        Stop::new(reason, self.at(by.saturating_sub(reserve)))
    }

    fn answer(&mut self, id: WorkerId, request: Request) -> Answer {
        match request {
            Request::Listen { asked, addrs } => self.sockets.listen(id, &asked, &addrs).map(Some),
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

    /// Tells a failure, and the policy's word for it.
    fn judge(&mut self, name: &str, ended: Ended) -> Ending {
        match ended.failure {
            Some(failure) => {
                self.tell_failure(name, &failure);
                Ending::Failed
            }
            None if ended.overran => Ending::Overran,
            None => Ending::Clean,
        }
    }

    fn tell_failure(&mut self, name: &str, failure: &Failure) {
        let cause = failure.to_string();
        let pid = std::process::id();
        // When the server goes down because no worker can start, all of them say the same.
        if self.stopping && self.told.contains(&cause) {
            tracing::info!("{name} (pid {pid}) failed likewise");
            return;
        }
        report::failure(format_args!("{name} (pid {pid}) failed: {cause}"));
        if !self.stopping {
            self.told.clear();
        }
        self.told.insert(cause);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::EnterMain => self.enter_main(),
                Action::DropEnter { reason, by } | Action::LeaveMain { reason, by } => {
                    self.leave_main(reason, by)
                }
                Action::Spawn { id, role, image } => self.spawn(id, role, image),
                Action::Stop { id, reason, by } => {
                    if let Some(live) = self.workers.get(&id) {
                        live.thread.worker.stop.set(self.stop(reason, by));
                    }
                }
                Action::Kill(id) => {
                    if let Some(live) = self.workers.get(&id) {
                        live.thread.kill();
                    }
                }
                Action::Close(role) => self.sockets.close(role),
                Action::CloseUnasked(id) => self.sockets.ready(id),
                Action::Park(role) => self.sockets.park(role),
                Action::Tell(id) => {
                    if let Some(live) = self.workers.get(&id) {
                        live.thread.worker.reloads.send_modify(|count| *count += 1);
                    }
                }
                Action::Report(report) => self.report(report),
                Action::Exit(code) => {
                    tracing::info!(code, "the server has ended");
                    self.exit = Some(code);
                }
            }
        }
    }

    /// A time of the policy's on the clock of the drivers; one that is out of its range is far away.
    fn at(&self, time: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        self.epoch.checked_add(time.min(FAR)).unwrap_or(self.epoch)
    }

    fn spawn(&mut self, id: WorkerId, role: Role, _image: Image) {
        let generation = *self
            .generations
            .entry(role)
            .and_modify(|generation| *generation += 1)
            .or_insert(0);
        let identity = Identity {
            index: match role {
                Role::Slot(index) => Some(index),
                Role::Extra(_) => None,
            },
            name: self.name(role),
            count: self.policy.target(),
            generation,
            isolation: self.config.isolation,
            to_completion: (self.config.run_to_completion && matches!(role, Role::Slot(_)))
                .then(|| Stop::new(StopReason::Completed, self.at(Duration::MAX))),
        };
        let body = match role {
            Role::Slot(_) => (self.job.make)(self.main_value.as_ref()),
            Role::Extra(extra) => (self.job.extras[extra].make)(),
        };
        let link = Link::Thread {
            id,
            supervisor: self.supervisor.clone(),
        };
        let worker = Shared::new(identity, link);
        self.sockets.begin(id, role);
        match Thread::spawn(worker, body, self.config.shutdown_timeout) {
            Ok(thread) => {
                self.workers.insert(
                    id,
                    Live {
                        role,
                        ready: false,
                        thread,
                    },
                );
            }
            Err(error) => {
                self.sockets.ended(id);
                let name = self.name(role);
                self.tell_failure(&name, &Failure::Spawn(error.to_string()));
                self.happened(Event::Ended(id, Ending::Failed));
            }
        }
    }

    fn name(&self, role: Role) -> String {
        match role {
            Role::Slot(index) => format!("worker {index}"),
            Role::Extra(extra) => self.job.extras[extra].name.clone(),
        }
    }

    fn worker_name(&self, id: WorkerId) -> String {
        match self.workers.get(&id) {
            Some(live) => self.name(live.role),
            None => "a worker".to_owned(),
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::AllReady => {
                let workers = self.policy.target();
                let listening: Vec<String> =
                    self.sockets.names().map(|name| name.to_string()).collect();
                let plural = if workers == 1 {
                    "worker is"
                } else {
                    "workers are"
                };
                match listening.is_empty() {
                    true => tracing::info!("{workers} {plural} ready"),
                    false => tracing::info!(
                        "{workers} {plural} ready, listening on {}",
                        listening.join(", ")
                    ),
                }
            }
            Report::Stopping { reason, by } => {
                self.stopping = true;
                let budget = by.saturating_sub(self.now());
                tracing::info!("stopping: {reason}; all is to end within {budget:.1?}");
            }
            Report::Forced(signal) => tracing::warn!("{signal} again: stopping at once"),
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
            Report::ReturnedUnasked(id) => report::failure(format_args!(
                "{} returned although it had not been asked to stop",
                self.worker_name(id)
            )),
            Report::Backoff { role, delay } => {
                tracing::warn!("{} is started again in {delay:?}", self.name(role));
            }
            Report::TooManyFailures { role, failures } => report::failure(format_args!(
                "{} failed {failures} times within {:?}, more than {} times: the server stops",
                self.name(role),
                self.config.restart_window,
                self.config.max_restarts
            )),
            Report::Vacant(role) => {
                tracing::warn!("the server goes on without {}", self.name(role))
            }
            Report::RollStarted { slots, .. } => tracing::info!(workers = slots, "rolling restart"),
            Report::RollDone => tracing::info!("rolling restart done"),
            Report::RollGivenUp { slot, mixed } => report::failure(format_args!(
                "rolling restart given up: the successor of worker {slot} failed to start{}",
                if mixed {
                    "; workers now run different versions"
                } else {
                    ""
                }
            )),
            Report::Scaled { from, to } => tracing::info!(from, to, "number of workers changed"),
            Report::ScaleLimit { workers } => {
                tracing::warn!(workers, "number of workers is at its limit")
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
