//! The driver: carries what happens to the policy, and out what it decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::absence::{Absence, GAP};
use super::asked::Asked;
#[cfg(all(feature = "monitor", feature = "process"))]
use super::entrances::{Entrances, Gate};
use super::inbox::Input;
use super::live::Live;
#[cfg(feature = "monitor")]
use super::looks::Asking;
use super::looks::{Look, Looks};
use super::policy::{Action, Config, Event, Policy, WorkerId, Worn};
use super::progress::Teller;
use super::pulse::{self, Finding};
use super::requests::Requests;
use super::seats::{Leaving, Seats, Thread};
#[cfg(feature = "timer")]
use super::singles::Singles;
use super::sockets::{Kernel, Received, Sockets};
use super::systemd::Systemd;
use super::turns::Turns;
#[cfg(feature = "process")]
use super::upgrade::{Heir, Upgrader, Upgrading};
#[cfg(feature = "monitor")]
use super::view::Failures;
use super::watchdog::{GiveUp, Watchdog};
use super::wear;
use super::who::about;
use crate::panic;
use crate::server::job::{Job, MainValue};
use crate::server::line::Role;
use crate::server::recycle::Limits;
use crate::server::report;
use crate::server::stop::{after, sleep_until};
use crate::server::{Addresses, Stop};

/// How much of what is said is heard out before a deadline that is due is judged.
const TURN: usize = 64;

/// What threads that have told their end get to be gone, once all else is done.
const LAST_DESTRUCTORS: Duration = Duration::from_secs(1);

pub(crate) struct Supervisor {
    pub(super) policy: Policy,
    pub(super) config: Config,
    pub(super) epoch: Instant,
    pub(super) job: Job,
    pub(super) seats: Seats,
    pub(super) sockets: Sockets,
    /// At those of them that all workers have.
    pub(super) turns: Turns,
    /// By worker; `None` is the main context.
    #[cfg(feature = "timer")]
    pub(super) singles: Singles<Option<WorkerId>>,
    pub(super) main: Option<Thread>,
    pub(super) main_value: Option<MainValue>,
    pub(super) workers: BTreeMap<WorkerId, Live>,
    pub(super) leaving: Leaving,
    /// What workers are to be told once systemd has let go of their sockets.
    pub(super) held_stops: BTreeMap<WorkerId, Stop>,
    pub(super) generations: BTreeMap<Role, u64>,
    pub(super) inbox: mpsc::UnboundedReceiver<Input>,
    pub(super) supervisor: mpsc::UnboundedSender<Input>,
    pub(super) hang_timeout: Option<Duration>,
    /// What workers are recycled for, beside their time.
    pub(super) recycle: Limits,
    /// When their memory is looked at next.
    pub(super) memory_at: Duration,
    /// What carrying out actions brought about; told once all of them are carried out.
    pub(super) arisen: VecDeque<Event>,
    /// When the workers' pulses are felt next.
    pub(super) pulses_at: Duration,
    absence: Absence,
    /// When the driver last did something.
    turned_at: Duration,
    pub(super) watchdog: Watchdog,
    pub(super) on_ready: Option<OnReady>,
    /// The service manager, if there is one that is to be told.
    pub(super) systemd: Option<Systemd>,
    /// Tells those who hold the server how far it has come.
    pub(super) teller: Teller,
    /// What those ask who look into it.
    pub(super) looks: Looks,
    #[cfg(feature = "monitor")]
    pub(super) failures: Failures,
    /// What workers have yet to answer, by number.
    #[cfg(feature = "monitor")]
    pub(super) queries: BTreeMap<u64, Asking>,
    #[cfg(feature = "monitor")]
    pub(super) next_query: u64,
    /// All workers and extras have been ready.
    #[cfg(feature = "monitor")]
    pub(super) was_ready: bool,
    #[cfg(feature = "process")]
    pub(super) upgrading: Upgrading,
    /// The failure that made the server stop, and those told since.
    pub(super) told: BTreeSet<String>,
    pub(super) stopping: bool,
    pub(super) exit: Option<i32>,
}

/// What the driver was waiting for.
enum Happened {
    Asked(Asked),
    Look(Look),
    Input(Input),
    Deadline,
}

/// The user's function that is told where the server listens.
pub(crate) type OnReady = Box<dyn FnOnce(&Addresses) + Send>;

/// What a supervisor needs to know beside what its policy does.
pub(crate) struct Setup {
    pub(crate) share_port: bool,
    pub(crate) hang_timeout: Option<Duration>,
    pub(crate) seats: Seats,
    pub(crate) recycle: Limits,
    pub(crate) on_ready: Option<OnReady>,
    pub(crate) teller: Teller,
    pub(crate) systemd: Option<Systemd>,
    pub(crate) looks: Looks,
    /// The sockets that a service manager has passed.
    pub(crate) received: Received,
    /// How it can be replaced, if it can.
    #[cfg(feature = "process")]
    pub(crate) upgrader: Option<Upgrader>,
    /// What it has of the supervisor that it replaces.
    #[cfg(feature = "process")]
    pub(crate) heir: Option<Heir>,
    /// Where those come in who look into it.
    #[cfg(all(feature = "monitor", feature = "process"))]
    pub(crate) reception: Option<(Entrances, Gate)>,
    /// What becomes of a server that doesn't come to its end.
    pub(crate) give_up: GiveUp,
}

impl Supervisor {
    pub(crate) fn new(config: Config, job: Job, setup: Setup) -> Supervisor {
        let (supervisor, inbox) = mpsc::unbounded_channel();
        let mut sockets = Sockets::new(Kernel, setup.share_port);
        sockets.inherit(setup.received.passed);
        sockets.take_back(setup.received.kept);
        #[cfg_attr(not(feature = "process"), expect(unused_mut))]
        let mut new = Supervisor {
            policy: Policy::new(config.clone()),
            // A thread that is blocked can't be ended, so it is only reported.
            hang_timeout: setup.hang_timeout.filter(|_| setup.seats.can_kill()),
            config,
            epoch: Instant::now(),
            job,
            sockets,
            turns: Turns::default(),
            #[cfg(feature = "timer")]
            singles: Singles::new(),
            seats: setup.seats,
            main: None,
            main_value: None,
            workers: BTreeMap::new(),
            leaving: Leaving::new(),
            held_stops: BTreeMap::new(),
            generations: BTreeMap::new(),
            inbox,
            supervisor,
            watchdog: Watchdog::new(setup.give_up),
            on_ready: setup.on_ready,
            teller: setup.teller,
            systemd: setup.systemd,
            looks: setup.looks,
            #[cfg(feature = "monitor")]
            failures: Failures::default(),
            #[cfg(feature = "monitor")]
            queries: BTreeMap::new(),
            #[cfg(feature = "monitor")]
            next_query: 0,
            #[cfg(feature = "monitor")]
            was_ready: false,
            #[cfg(feature = "process")]
            upgrading: Upgrading::new(
                setup.upgrader,
                #[cfg(feature = "monitor")]
                setup.reception,
            ),
            recycle: setup.recycle,
            memory_at: wear::EVERY,
            arisen: VecDeque::new(),
            pulses_at: pulse::interval(setup.hang_timeout),
            absence: Absence::watch(),
            turned_at: Duration::ZERO,
            told: BTreeSet::new(),
            stopping: false,
            exit: None,
        };
        #[cfg(feature = "process")]
        if let Some(heir) = setup.heir {
            new.inherit(heir);
        }
        new
    }

    /// Runs the server to its end and gives its exit code.
    pub(crate) async fn run(mut self, mut requests: Requests) -> i32 {
        let actions = self.policy.start(self.now());
        self.act(actions);
        // What is left of the turn that a deadline grants which is due; and whether those that have something to say
        // have had the time to.
        let (mut left, mut heard_out) = (TURN, false);
        loop {
            self.notify();
            if let Some(code) = self.exit.filter(|_| self.leaves_nobody()) {
                #[cfg(feature = "process")]
                self.upgrading.finish().await;
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
            let is_due = deadline.is_some_and(|at| at <= self.now());
            let listens = left > 0 || !is_due;
            let wake = sleep_until(deadline.map(|at| self.at(at)));
            let happened = tokio::select! {
                // Signals are read before deaths, and both before deadlines are judged; but those don't wait for ever.
                biased;
                asked = requests.next(), if listens => Happened::Asked(asked),
                look = self.looks.next(), if listens => Happened::Look(look),
                Some(input) = self.inbox.recv(), if listens => Happened::Input(input),
                () = wake => Happened::Deadline,
            };
            self.make_up_for_gap(deadline);
            match happened {
                Happened::Asked(asked) => self.asked(asked),
                Happened::Look(look) => self.look(look),
                Happened::Input(input) => self.received(input),
                Happened::Deadline if !heard_out => {
                    heard_out = true;
                    tokio::task::yield_now().await;
                    continue;
                }
                Happened::Deadline => {
                    (left, heard_out) = (TURN, false);
                    self.time_has_come();
                    continue;
                }
            }
            left = if is_due { left - 1 } else { TURN };
            self.seats.keep(|image| self.policy.uses(image));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let pulses = self
            .workers
            .values()
            .any(|live| live.turning)
            .then_some(self.pulses_at);
        let notices = self.systemd.as_ref().and_then(Systemd::next_deadline);
        let memory = self.recycle.memory.map(|_| self.memory_at);
        #[cfg(feature = "process")]
        let upgrade = self.upgrading.next_deadline();
        #[cfg(not(feature = "process"))]
        let upgrade = None;
        let others = pulses.into_iter().chain(notices).chain(memory);
        let others = others.chain(upgrade);
        self.policy.next_deadline().into_iter().chain(others).min()
    }

    /// Moves all deadlines there are by the time for which this process did not run. To be done before anything new
    /// is decided, whose deadline then is right already.
    pub(super) fn make_up_for_gap(&mut self, deadline: Option<Duration>) {
        let now = self.now();
        let out = now.saturating_sub(std::mem::replace(&mut self.turned_at, now));
        let late = deadline.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        if late <= GAP && !(late.is_zero() && out > GAP) {
            self.absence.forget();
            return;
        }
        let absent = self.absence.take();
        if absent.is_zero() {
            return;
        }
        let gap = absent.max(late);
        self.policy.gap(gap);
        #[cfg(feature = "process")]
        self.upgrading.gap(gap);
        self.pulses_at = self.pulses_at.saturating_add(gap);
        for live in self.workers.values_mut() {
            live.pulse.gap(gap);
        }
        self.set_watchdog();
        report::log!(
            warn,
            ?gap,
            "the server was suspended; all deadlines move by that"
        );
    }

    pub(super) fn time_has_come(&mut self) {
        let now = self.now();
        if self.pulses_at <= now {
            self.pulses_at = now + pulse::interval(self.hang_timeout);
            self.feel_pulses(now);
            self.sockets.look_after_files(false);
        }
        self.look_at_memory(now);
        #[cfg(feature = "process")]
        self.look_after_upgrade(now);
        let actions = self.policy.tick(now);
        self.act(actions);
    }

    /// Finds the workers whose memory is over the limit.
    fn look_at_memory(&mut self, now: Duration) {
        let Some(limit) = self.recycle.memory.filter(|_| self.memory_at <= now) else {
            return;
        };
        self.memory_at = now + wear::EVERY;
        let mut worn = Vec::new();
        for (id, live) in self.workers.iter().filter(|(_, live)| live.ready) {
            let resident = wear::resident(live.seat.pid()).unwrap_or(0);
            if resident > live.wear.of(limit) {
                worn.push((*id, Worn::Memory(resident)));
            }
        }
        for (id, worn) in worn {
            self.happened(Event::Worn(id, worn));
        }
    }

    pub(super) fn feel_pulses(&mut self, now: Duration) {
        let (mut blocked, mut hung) = (Vec::new(), Vec::new());
        let hang_timeout = self.hang_timeout;
        for (id, live) in self.workers.iter_mut().filter(|(_, live)| live.turning) {
            let (role, pid) = (live.role, live.seat.pid());
            let hang_timeout = hang_timeout.filter(|_| live.must_answer());
            match live.pulse.check(now, hang_timeout) {
                None => {}
                Some(Finding::Ask(number)) => live.seat.ping(number),
                Some(Finding::Blocked(time)) => blocked.push((role, pid, time)),
                Some(Finding::Hung) if is_traced(pid) => live.pulse.excuse(now),
                Some(Finding::Hung) => hung.push((*id, role, pid)),
            }
        }
        for (role, pid, time) in blocked {
            let who = self.who(role, pid);
            let name = &who.name;
            about!(
                who,
                failure,
                {},
                "the event loop of {name} has been blocked for {time:.1?}"
            );
        }
        for (id, role, pid) in hung {
            let (who, time) = (self.who(role, pid), hang_timeout.unwrap_or_default());
            let name = &who.name;
            about!(
                who,
                failure,
                { cause = "hangs" },
                "{name} hangs: its event loop has been blocked for {time:?}"
            );
            self.happened(Event::Hung(id));
        }
    }

    /// Whether no process that this one has started is to be waited for, workers aside.
    fn leaves_nobody(&self) -> bool {
        #[cfg(feature = "process")]
        return self.upgrading.is_settled();
        #[cfg(not(feature = "process"))]
        true
    }

    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// A time of the policy's on the clock of the drivers.
    pub(super) fn at(&self, time: Duration) -> Instant {
        after(self.epoch, time)
    }

    pub(super) fn happened(&mut self, event: Event) {
        let actions = self.policy.on(self.now(), event);
        self.act(actions);
    }

    pub(super) fn asked(&mut self, asked: Asked) {
        if matches!(asked, Asked::Reload) {
            self.sockets.look_after_files(true);
            self.notice_reload();
        }
        #[cfg(feature = "monitor")]
        self.note_asked(asked);
        let refused = (asked == Asked::Upgrade && !self.stopping).then(|| self.why_no_upgrade());
        if let Some(why) = refused.flatten() {
            report::log!(warn, "upgrade refused: {why}");
            #[cfg(feature = "monitor")]
            self.note_upgrade_refused(&why);
            return;
        }
        #[cfg(feature = "process")]
        if matches!(asked, Asked::ScaleUp | Asked::ScaleDown | Asked::Scale(_)) {
            self.upgrading.scaled = true;
        }
        self.happened(match asked {
            Asked::Stop(signal) => Event::StopSignal(signal),
            Asked::StopRequested => Event::StopRequested,
            Asked::Reload => Event::Reload,
            Asked::ScaleUp => Event::ScaleUp,
            Asked::ScaleDown => Event::ScaleDown,
            Asked::Scale(workers) => Event::Scale(workers),
            Asked::Tell => Event::Tell,
            Asked::Upgrade => Event::Upgrade,
        });
    }

    #[cfg(not(feature = "monitor"))]
    fn look(&mut self, look: Look) {
        match look {}
    }

    pub(super) fn received(&mut self, input: Input) {
        match input {
            Input::Worker(id, message) => self.worker_said(id, message),
            #[cfg(feature = "process")]
            Input::Process(id, message, taken) => {
                self.worker_said(id, message);
                drop(taken);
            }
            Input::Main(message) => self.main_said(message),
            Input::LetGo(id) => self.pass_on_stop(id),
            Input::MainEntered(value) => {
                self.main_value = Some(value);
                self.happened(Event::MainEntered);
            }
            #[cfg(feature = "process")]
            Input::Other(other) => self.other_said(other),
        }
        self.pass_on_loans();
    }

    pub(super) fn act(&mut self, actions: Vec<Action>) {
        self.carry_out(actions);
        while let Some(event) = self.arisen.pop_front() {
            let actions = self.policy.on(self.now(), event);
            self.carry_out(actions);
        }
        #[cfg(feature = "monitor")]
        self.note_states();
        self.pass_on_loans();
    }
}

#[cfg(not(feature = "process"))]
impl Supervisor {
    fn why_no_upgrade(&self) -> Option<String> {
        Some(
            "an upgrade starts a new process: build the program with aioxide's feature `process`"
                .to_owned(),
        )
    }

    #[cfg(feature = "monitor")]
    pub(super) fn is_replaced(&self) -> bool {
        false
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
