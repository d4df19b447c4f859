//! The driver: carries what happens to the policy, and out what it decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::panic;
use crate::server::job::{Extra, MakeWorker, StartBody, lock};
use crate::server::line::link::{Answer, Input, Link, Message, Request};
use crate::server::stop::{after, without_reserve};
use crate::server::supervisor::policy::{
    Action, Config, Ending, Event, Image, Policy, Report, Role, WorkerId,
};
use crate::server::supervisor::pulse::{self, Finding, Pulse};
use crate::server::supervisor::seats::main_context::{MainValue, MakeMain};
use crate::server::supervisor::seats::thread::{Leaving, Thread};
use crate::server::supervisor::signals::{Asked, Signals};
use crate::server::supervisor::sockets::Sockets;
use crate::server::supervisor::watchdog::Watchdog;
use crate::server::worker::event_loop::{Ended, Failure};
use crate::server::worker::handle::{Identity, Shared};
use crate::server::{Isolation, Stop, StopReason, report};
#[cfg(feature = "process")]
use crate::server::{
    Signal,
    line::wire::Assignment,
    supervisor::seats::main_context::Decode,
    supervisor::seats::process::{self, Processes},
};

/// The driver was out for at least this long: suspended, or stopped by a signal.
const GAP: Duration = Duration::from_secs(1);

/// What threads that have told their end get to be gone, once all else is done.
const LAST_DESTRUCTORS: Duration = Duration::from_secs(1);

const MAIN: &str = "the main context";

/// What a server runs.
pub(crate) struct Job {
    pub(crate) make: MakeWorker,
    pub(crate) main: Option<MakeMain>,
    pub(crate) extras: Vec<Extra>,
    #[cfg(feature = "process")]
    pub(crate) decode: Option<Decode>,
}

impl Job {
    /// The main context's value, as it came to a worker.
    #[cfg(feature = "process")]
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<MainValue, String> {
        match self.decode {
            Some(decode) => decode(bytes),
            None => Err("this program has no main context for its processes".to_owned()),
        }
    }

    /// What starts a worker, where it runs.
    pub(crate) fn start(&self, role: Role, main: Option<&MainValue>) -> StartBody {
        match role {
            Role::Slot(_) => {
                let make = Arc::clone(&self.make);
                let main = main.map(|main| Arc::clone(&main.value));
                Box::new(move || {
                    let main = main.as_deref().map(lock);
                    lock(&make)(main.as_deref())
                })
            }
            Role::Extra(extra) => {
                let make = Arc::clone(&self.extras[extra].make);
                Box::new(move || lock(&make)())
            }
        }
    }

    pub(crate) fn name(&self, role: Role) -> String {
        match role {
            Role::Slot(index) => format!("worker {index}"),
            Role::Extra(extra) => self.extras[extra].name.clone(),
        }
    }
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
    leaving: Leaving,
    generations: BTreeMap<Role, u64>,
    inbox: mpsc::UnboundedReceiver<Input>,
    supervisor: mpsc::UnboundedSender<Input>,
    hang_timeout: Option<Duration>,
    #[cfg(feature = "process")]
    processes: Option<Processes>,
    #[cfg(feature = "process")]
    stop_signals: Vec<Signal>,
    /// What carrying out actions brought about; told once all of them are carried out.
    arisen: VecDeque<Event>,
    /// When the workers' pulses are felt next.
    pulses_at: Duration,
    watchdog: Watchdog,
    /// The failure that made the server stop, and those told since.
    told: BTreeSet<String>,
    stopping: bool,
    exit: Option<i32>,
}

/// What the driver was waiting for.
enum Happened {
    Asked(Asked),
    Input(Input),
    Deadline,
}

/// What a supervisor needs to know beside what its policy does.
pub(crate) struct Setup {
    pub(crate) share_port: bool,
    pub(crate) hang_timeout: Option<Duration>,
    #[cfg(feature = "process")]
    pub(crate) stop_signals: Vec<Signal>,
    /// With process workers.
    #[cfg(feature = "process")]
    pub(crate) processes: Option<Processes>,
}

struct Live {
    role: Role,
    /// It has an event loop, which has begun to turn: a process may take its time before, and a synchronous extra
    /// never has one.
    turning: bool,
    ready: bool,
    /// It was to stop, and got no socket any more.
    refused: bool,
    /// It has told that it comes to its end, and why.
    ending: bool,
    pulse: Pulse,
    seat: Seat,
}

impl Live {
    /// Whether it has failed if its event loop doesn't answer: it is ready, and neither has it come to its end nor has
    /// anybody asked it to stop.
    fn must_answer(&self) -> bool {
        self.ready && !self.ending && !self.seat.is_stopping()
    }
}

enum Seat {
    Thread(Thread),
    #[cfg(feature = "process")]
    Process(process::Seat),
}

impl Seat {
    fn pid(&self) -> u32 {
        match self {
            Seat::Thread(_) => std::process::id(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.pid,
        }
    }

    fn stop(&mut self, stop: Stop) {
        match self {
            Seat::Thread(thread) => thread.worker.stop.set(stop),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.stop(stop),
        }
    }

    fn is_stopping(&self) -> bool {
        match self {
            Seat::Thread(thread) => thread.worker.stop.get().is_some(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.stop.is_some(),
        }
    }

    fn kill(&self) {
        match self {
            Seat::Thread(thread) => thread.kill(),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.kill(),
        }
    }

    fn tell(&self) {
        match self {
            Seat::Thread(thread) => thread.worker.reloads.send_modify(|count| *count += 1),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.tell(),
        }
    }

    fn ping(&self, number: u64) {
        match self {
            Seat::Thread(thread) => thread.worker.ping(number),
            #[cfg(feature = "process")]
            Seat::Process(process) => process.ping(number),
        }
    }
}

impl Supervisor {
    pub(crate) fn new(config: Config, job: Job, setup: Setup) -> Supervisor {
        let (supervisor, inbox) = mpsc::unbounded_channel();
        Supervisor {
            policy: Policy::new(config.clone()),
            // A thread that is blocked can't be ended, so it is only reported.
            hang_timeout: setup
                .hang_timeout
                .filter(|_| config.isolation == Isolation::Process),
            config,
            epoch: Instant::now(),
            job,
            sockets: Sockets::new(setup.share_port),
            #[cfg(feature = "process")]
            processes: setup.processes,
            #[cfg(feature = "process")]
            stop_signals: setup.stop_signals,
            main: None,
            main_value: None,
            workers: BTreeMap::new(),
            leaving: Leaving::new(),
            generations: BTreeMap::new(),
            inbox,
            supervisor,
            watchdog: Watchdog::default(),
            arisen: VecDeque::new(),
            pulses_at: pulse::INTERVAL,
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
                if !self.leaving.join(LAST_DESTRUCTORS) {
                    report::log!(warn, "destructors of thread-local values are cut");
                }
                let Supervisor {
                    job, main_value, ..
                } = self;
                // The user's destructors, which no longer have a say in the code.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop((job, main_value)))) {
                    let panic = panic::into_text(panic);
                    report::log!(
                        error,
                        panic,
                        "what the workers were made of panicked when dropped"
                    );
                }
                return code;
            }
            let deadline = self.next_deadline();
            let wake = sleep_until(deadline.map(|at| self.at(at)));
            let happened = tokio::select! {
                // Signals are read before deaths, and both before deadlines are judged.
                biased;
                asked = signals.next() => Happened::Asked(asked),
                Some(input) = self.inbox.recv() => Happened::Input(input),
                () = wake => Happened::Deadline,
            };
            self.make_up_for_gap(deadline);
            match happened {
                Happened::Asked(asked) => self.signalled(asked),
                Happened::Input(input) => self.received(input),
                Happened::Deadline => self.time_has_come(),
            }
            #[cfg(feature = "process")]
            if let Some(processes) = &mut self.processes {
                processes.keep(|image| self.policy.uses(image));
            }
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let pulses = self
            .workers
            .values()
            .any(|live| live.turning)
            .then_some(self.pulses_at);
        self.policy.next_deadline().into_iter().chain(pulses).min()
    }

    /// Moves all deadlines there are by the time for which the supervisor was out. To be done before anything new
    /// is decided, whose deadline then is right already.
    fn make_up_for_gap(&mut self, deadline: Option<Duration>) {
        let late = deadline.map_or(Duration::ZERO, |at| self.now().saturating_sub(at));
        if late <= GAP {
            return;
        }
        self.policy.gap(late);
        self.pulses_at = self.pulses_at.saturating_add(late);
        for live in self.workers.values_mut() {
            live.pulse.gap(late);
        }
        self.set_watchdog();
        report::log!(
            warn,
            ?late,
            "the supervisor was held up; all deadlines move by that"
        );
    }

    fn time_has_come(&mut self) {
        let now = self.now();
        if self.pulses_at <= now {
            self.pulses_at = now + pulse::INTERVAL;
            self.feel_pulses(now);
        }
        let actions = self.policy.tick(now);
        self.act(actions);
    }

    fn feel_pulses(&mut self, now: Duration) {
        let mut hung = Vec::new();
        let hang_timeout = self.hang_timeout;
        for (id, live) in self.workers.iter_mut().filter(|(_, live)| live.turning) {
            let name = self.job.name(live.role);
            let hang_timeout = hang_timeout.filter(|_| live.must_answer());
            match live.pulse.check(now, hang_timeout) {
                None => {}
                Some(Finding::Ask(number)) => live.seat.ping(number),
                Some(Finding::Blocked(time)) => {
                    report::failure(format_args!(
                        "the event loop of {name} has been blocked for {time:.1?}"
                    ));
                }
                Some(Finding::Hung) if is_traced(live.seat.pid()) => live.pulse.excuse(now),
                Some(Finding::Hung) => {
                    let time = hang_timeout.unwrap_or_default();
                    report::failure(format_args!(
                        "{name} hangs: its event loop has been blocked for {time:?}"
                    ));
                    hung.push(*id);
                }
            }
        }
        for id in hung {
            self.happened(Event::Hung(id));
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
                let now = self.now();
                if let Some(live) = self.workers.get_mut(&id) {
                    live.ready = true;
                    live.pulse.ready(now);
                    report::log!(debug, "{} is ready", self.job.name(live.role));
                }
                self.happened(Event::Ready(id));
            }
            Message::Pong(number) => {
                let now = self.now();
                if let Some(live) = self.workers.get_mut(&id) {
                    if !live.turning {
                        live.turning = true;
                        // While no loop turned, nothing was due.
                        self.pulses_at = self.pulses_at.max(now);
                    }
                    if let Some(blocked) = live.pulse.answered(now, number) {
                        let name = self.job.name(live.role);
                        report::log!(
                            warn,
                            "the event loop of {name} turns again, after {blocked:.1?}"
                        );
                    }
                }
            }
            #[cfg(feature = "process")]
            Message::Signalled(signal) => self.happened(Event::WorkerSignalled(id, signal)),
            Message::Request(request, reply) => {
                let answer = self.answer(id, request);
                if let Some(live) = self.workers.get_mut(&id) {
                    live.refused |= answer.is_err() && live.seat.is_stopping();
                }
                // The worker may have dropped its `listen`; the slot keeps the socket.
                let _ = reply.send(answer);
            }
            #[cfg(feature = "process")]
            Message::Exiting => {
                if let Some(live) = self.workers.get_mut(&id) {
                    live.turning = false;
                }
            }
            Message::Ending(failure) => {
                let Some(live) = self.workers.get_mut(&id) else {
                    return;
                };
                // Of one that was asked meanwhile, or that is an extra, nothing is done before it is gone.
                if live.seat.is_stopping() || matches!(live.role, Role::Extra(_)) {
                    return;
                }
                live.ending = true;
                let (name, pid) = (self.job.name(live.role), live.seat.pid());
                let overran = false;
                let starting = !live.ready;
                let ending = self.judge(&name, pid, starting, Ended { failure, overran });
                self.sockets.leaving(id);
                self.happened(Event::Ending(id, ending));
                // What the policy makes nothing of before the worker is gone counts then.
                if let Some(live) = self.workers.get_mut(&id) {
                    live.ending = live.seat.is_stopping();
                }
            }
            Message::Ended(mut ended) => {
                let Some(live) = self.workers.get(&id) else {
                    return;
                };
                if live.ending {
                    ended.failure = ended.failure.filter(Failure::is_of_the_end_itself);
                }
                let name = self.job.name(live.role);
                let pid = live.seat.pid();
                let (starting, refused) = (!live.ready, live.refused);
                self.sockets.ended(id);
                let ending = match ended.failure {
                    // Without a socket it has to give up: that is what it was asked to do.
                    Some(failure @ (Failure::Error(_) | Failure::Panic(_)))
                        if starting && refused =>
                    {
                        let cause = failure.to_string();
                        match self.told.contains(&cause) {
                            true => report::log!(info, "{name} (pid {pid}) failed likewise"),
                            false => {
                                report::log!(
                                    info,
                                    "{name} was stopped while it was starting: {cause}"
                                )
                            }
                        }
                        Ending::Clean
                    }
                    #[cfg(feature = "process")]
                    Some(failure @ Failure::StopSignal(_)) => {
                        report::log!(info, "{name} (pid {pid}) was {failure}");
                        Ending::KilledByStopSignal
                    }
                    _ => self.judge(&name, pid, starting, ended),
                };
                // Known until then by what the policy has to report of it.
                self.happened(Event::Ended(id, ending));
                match self.workers.remove(&id).map(|live| live.seat) {
                    Some(Seat::Thread(thread)) => self.leaving.add(thread),
                    #[cfg(feature = "process")]
                    Some(Seat::Process(_)) => {}
                    None => {}
                }
            }
        }
    }

    fn main_said(&mut self, message: Message) {
        match message {
            // It waits for its stop; that it was entered has been told, and its end counts when it is gone.
            Message::Ready | Message::Pong(_) | Message::Ending(_) => {}
            #[cfg(feature = "process")]
            Message::Signalled(_) | Message::Exiting => {}
            Message::Request(_, reply) => {
                let _ = reply.send(Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the main context has no listening sockets",
                )));
            }
            Message::Ended(ended) => {
                let ending = self.judge(MAIN, std::process::id(), false, ended);
                if let Some(main) = self.main.take() {
                    self.leaving.add(main);
                }
                self.happened(match self.main_value {
                    None if ending == Ending::Failed => Event::MainFailed,
                    _ => Event::MainLeft(ending),
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
        let supervisor = self.supervisor.clone();
        let to_processes = self.config.isolation == Isolation::Process;
        match Thread::spawn(
            Shared::new(identity, link),
            Box::new(move || make(supervisor, to_processes)),
            self.config.shutdown_timeout,
        ) {
            Ok(thread) => self.main = Some(thread),
            Err(error) => {
                self.tell_failure(
                    MAIN,
                    std::process::id(),
                    true,
                    &Failure::Spawn(error.to_string()),
                );
                self.arisen.push_back(Event::MainFailed);
            }
        }
    }

    fn leave_main(&mut self, reason: StopReason, by: Duration) {
        match &self.main {
            Some(main) => main.worker.stop.set(self.stop(reason, by)),
            None => self.arisen.push_back(Event::MainLeft(Ending::Clean)),
        }
    }

    /// What a worker is told: a little less than the time that it really has.
    fn stop(&self, reason: StopReason, by: Duration) -> Stop {
        let now = self.now();
        let told = now.saturating_add(without_reserve(by.saturating_sub(now)));
        Stop::new(reason, self.at(told))
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
    fn judge(&mut self, name: &str, pid: u32, starting: bool, ended: Ended) -> Ending {
        if let Some(failure) = &ended.failure {
            self.tell_failure(name, pid, starting, failure);
        }
        match (ended.failure, ended.overran) {
            (Some(_), true) => Ending::OverranAndFailed,
            (Some(_), false) => Ending::Failed,
            (None, true) => Ending::Overran,
            (None, false) => Ending::Clean,
        }
    }

    fn tell_failure(&mut self, name: &str, pid: u32, starting: bool, failure: &Failure) {
        let cause = failure.to_string();
        // When the server goes down because no worker can start, all of them say the same.
        if starting && self.stopping && self.told.contains(&cause) {
            report::log!(info, "{name} (pid {pid}) failed likewise");
            return;
        }
        report::failure(format_args!("{name} (pid {pid}) failed: {cause}"));
        if !self.stopping {
            self.told.clear();
        }
        self.told.insert(cause);
    }

    fn act(&mut self, actions: Vec<Action>) {
        self.carry_out(actions);
        while let Some(event) = self.arisen.pop_front() {
            let actions = self.policy.on(self.now(), event);
            self.carry_out(actions);
        }
    }

    /// Has the end enforced, once there is one to come.
    fn set_watchdog(&mut self) {
        let Some(end) = self.policy.hard_end() else {
            return;
        };
        let at = self.at(end).into_std();
        #[cfg(feature = "process")]
        self.watchdog
            .guard(self.workers.values().filter_map(|live| match &live.seat {
                Seat::Process(process) => Some(process.killer.clone()),
                Seat::Thread(_) => None,
            }));
        self.watchdog.set(at, self.policy.exit_code());
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        // First: any of these may write a log line, and wait for ever for somebody to read it.
        self.set_watchdog();
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
                    if let Some(live) = self.workers.get_mut(&id) {
                        live.seat.stop(stop);
                    }
                }
                Action::Kill(id) => {
                    self.sockets.leaving(id);
                    if let Some(live) = self.workers.get(&id) {
                        live.seat.kill();
                    }
                }
                Action::Close(role) => self.sockets.close(role),
                Action::CloseUnasked(id) => self.sockets.ready(id),
                Action::Park(role) => self.sockets.park(role),
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

    /// A time of the policy's on the clock of the drivers.
    fn at(&self, time: Duration) -> Instant {
        after(self.epoch, time)
    }

    fn spawn(&mut self, id: WorkerId, role: Role, image: Image) {
        self.sockets.begin(id, role);
        match self.try_spawn(id, role, image) {
            Ok(seat) => {
                let has_loop = match role {
                    Role::Slot(_) => true,
                    Role::Extra(extra) => !self.config.extra_sync[extra],
                };
                self.workers.insert(
                    id,
                    Live {
                        role,
                        turning: false,
                        // Without a loop it counts as ready at start.
                        ready: !has_loop,
                        refused: false,
                        ending: false,
                        pulse: Pulse::default(),
                        seat,
                    },
                );
            }
            Err(error) => {
                self.sockets.ended(id);
                let name = self.job.name(role);
                self.tell_failure(
                    &name,
                    std::process::id(),
                    true,
                    &Failure::Spawn(error.to_string()),
                );
                self.arisen.push_back(Event::Ended(id, Ending::Failed));
            }
        }
    }

    #[cfg_attr(not(feature = "process"), expect(unused_variables))]
    fn try_spawn(&mut self, id: WorkerId, role: Role, image: Image) -> io::Result<Seat> {
        let generation = *self
            .generations
            .entry(role)
            .and_modify(|generation| *generation += 1)
            .or_insert(0);
        let to_completion = self.config.run_to_completion && matches!(role, Role::Slot(_));
        #[cfg(feature = "process")]
        if let Some(processes) = &mut self.processes {
            let assignment = Assignment {
                role,
                count: self.policy.target(),
                generation,
                shutdown_timeout: self.config.shutdown_timeout,
                stop_signals: self
                    .stop_signals
                    .iter()
                    .map(|signal| signal.as_raw())
                    .collect(),
                run_to_completion: to_completion,
                main: self.main_value.is_some(),
            };
            let main = self
                .main_value
                .as_ref()
                .and_then(|main| main.encoded.clone());
            let seat = processes.spawn(id, image, assignment, main, self.supervisor.clone())?;
            return Ok(Seat::Process(seat));
        }
        let identity = Identity {
            index: match role {
                Role::Slot(index) => Some(index),
                Role::Extra(_) => None,
            },
            name: self.job.name(role),
            count: self.policy.target(),
            generation,
            isolation: Isolation::Thread,
            to_completion: to_completion
                .then(|| Stop::new(StopReason::Completed, self.at(Duration::MAX))),
        };
        let link = Link::Thread {
            id,
            supervisor: self.supervisor.clone(),
        };
        Thread::spawn(
            Shared::new(identity, link),
            self.job.start(role, self.main_value.as_ref()),
            self.config.shutdown_timeout,
        )
        .map(Seat::Thread)
    }

    fn worker_name(&self, id: WorkerId) -> String {
        match self.workers.get(&id) {
            Some(live) => self.job.name(live.role),
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
                    true => report::log!(info, "{workers} {plural} ready"),
                    false => report::log!(
                        info,
                        "{workers} {plural} ready, listening on {}",
                        listening.join(", ")
                    ),
                }
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
            Report::Vacant(role) => {
                report::log!(warn, "the server goes on without {}", self.job.name(role))
            }
            Report::RollStarted { slots, .. } => {
                report::log!(info, workers = slots, "rolling restart")
            }
            Report::RollDone => report::log!(info, "rolling restart done"),
            Report::RollGivenUp { slot, mixed } => report::failure(format_args!(
                "rolling restart given up: the successor of worker {slot} failed to start{}",
                // Threads run what the supervisor runs.
                if mixed && self.config.isolation == Isolation::Process {
                    "; workers now run different versions"
                } else {
                    ""
                }
            )),
            Report::Scaled { from, to } => {
                report::log!(info, from, to, "number of workers changed")
            }
            Report::ScaleLimit { workers } => {
                report::log!(warn, workers, "number of workers is at its limit")
            }
        }
    }
}

/// Whether a debugger holds the process, which then can't answer.
fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// For ever, if there is no deadline.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
