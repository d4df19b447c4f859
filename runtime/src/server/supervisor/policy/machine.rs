//! What the supervisor does next: events and the time in, actions out.
//!
//! No clock, socket, task or log is in here, so that property tests cover years of events in a
//! second. Times are durations since an epoch that the driver chooses; they never go backwards.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::server::stop::{Signal, StopReason};
use crate::server::{Isolation, OnFailure};

/// Stop signals this soon after the first belong to it: GNU `timeout` always sends two.
const SAME_SIGNAL: Duration = Duration::from_millis(500);
/// What a killed worker gets to be gone, and what extras and the main context get of the budget at
/// its end.
const GRACE: Duration = Duration::from_secs(1);
/// A slot whose successor is due later than this after its last worker's end is parked.
const PARK_BACKOFF: Duration = Duration::from_secs(1);
/// A slot whose successor has been starting for this long is parked.
const PARK_STARTING: Duration = Duration::from_secs(5);
/// The first backoff of a slot.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// What doubling a slot's backoff leads to.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What the policy has to know of a server's options.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// How many workers to start, at least 1.
    pub(crate) workers: usize,
    /// How many workers SIGTTIN may scale to.
    pub(crate) max_workers: usize,
    /// One per extra: whether it is a sync fn, which counts as ready at start.
    pub(crate) extra_sync: Vec<bool>,
    /// Whether there is a main context to enter before, and to leave after, everything else.
    pub(crate) has_main: bool,
    pub(crate) isolation: Isolation,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) on_failure: OnFailure,
    pub(crate) max_restarts: u32,
    pub(crate) restart_window: Duration,
    pub(crate) run_to_completion: bool,
    /// Spreads a backoff, so that slots that failed together don't start together. The identity in
    /// tests.
    pub(crate) jitter: fn(Duration) -> Duration,
}

/// What a worker is for. Extras are workers without an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "process", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Role {
    /// A worker of this index.
    Slot(usize),
    /// The extra at this position of the option.
    Extra(usize),
}

/// One life of a worker, from its spawn to its end. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);

/// A version of the executable. 0 is what runs the supervisor. When the driver first meets a higher
/// number, it opens what is then on disk and keeps it for as long as [`Policy::uses`] it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Image(pub(crate) u64);

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It returned without an error, or exited with 0.
    Clean,
    /// As `Clean`, but what it still had to do at its deadline was cut off.
    Overran,
    /// It returned an error, panicked, died, or couldn't be spawned.
    Failed,
    /// It failed, and something was cut off at its deadline.
    OverranAndFailed,
    /// A stop signal killed it before its handlers existed: it was asked to leave.
    KilledByStopSignal,
}

impl Ending {
    fn has_failed(self) -> bool {
        matches!(self, Ending::Failed | Ending::OverranAndFailed)
    }

    fn has_overrun(self) -> bool {
        matches!(self, Ending::Overran | Ending::OverranAndFailed)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The main context has been entered.
    MainEntered,
    /// Entering the main context failed.
    MainFailed,
    /// The main context is gone: after [`Action::LeaveMain`] or [`Action::DropEnter`] it always
    /// comes to this, or to the deadline.
    MainLeft(Ending),
    /// A worker reached its yield.
    Ready(WorkerId),
    /// A worker has come to its end without having been asked, and takes leave: what it left to be done is
    /// still done, until its deadline. [`Event::Ended`] follows, where this end counts no more.
    Ending(WorkerId, Ending),
    /// A worker is gone, or its spawn failed. Once per spawn.
    Ended(WorkerId, Ending),
    /// A worker's event loop has been blocked for the hang timeout.
    Hung(WorkerId),
    /// A process worker caught this stop signal and reports it.
    #[cfg_attr(not(any(feature = "process", test)), expect(dead_code))]
    WorkerSignalled(WorkerId, Signal),
    /// A stop signal to the supervisor; SIGHUP too, once the controlling terminal is gone.
    StopSignal(Signal),
    /// SIGHUP.
    Reload,
    /// SIGTTIN.
    ScaleUp,
    /// SIGTTOU.
    ScaleDown,
    /// SIGUSR1.
    Tell,
}

/// What the driver is to do, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Enter the main context, on its own thread.
    EnterMain,
    /// Give up entering the main context: drop what is half entered, or leave it if it was entered
    /// after all.
    DropEnter {
        /// Told to its teardown.
        reason: StopReason,
        /// When it is given up.
        by: Duration,
    },
    /// Start a worker. A spawn that fails is [`Event::Ended`] with [`Ending::Failed`].
    Spawn {
        /// The new worker.
        id: WorkerId,
        /// What it is for.
        role: Role,
        /// The executable that it runs, with process workers.
        image: Image,
    },
    /// Ask a worker to stop. At most once per worker.
    Stop {
        /// The worker.
        id: WorkerId,
        /// Why.
        reason: StopReason,
        /// When it will be killed.
        by: Duration,
    },
    /// SIGKILL a process worker; drop a thread worker's future, so that it returns within a second.
    Kill(WorkerId),
    /// Close all sockets that the supervisor holds for this role.
    Close(Role),
    /// Close the sockets held for this worker's role that the worker didn't ask for.
    CloseUnasked(WorkerId),
    /// Stop listening on the sockets held for this role that a sibling serves too, until the role's
    /// next worker asks for them. Leave alone what a worker of it that is neither told to stop nor killed has
    /// already asked for.
    Park(Role),
    /// Tell a worker of a SIGUSR1.
    Tell(WorkerId),
    /// Leave the main context.
    LeaveMain {
        /// Told to its teardown.
        reason: StopReason,
        /// When it is given up.
        by: Duration,
    },
    /// Something to log.
    Report(Report),
    /// End the process, whatever still runs in it. The last action of all.
    Exit(i32),
}

/// What the driver only logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// All workers and extras are ready.
    AllReady,
    /// The server stops.
    Stopping {
        /// What made it stop.
        reason: StopReason,
        /// When the budget ends.
        by: Duration,
    },
    /// A second stop signal: everything is killed.
    Forced(Signal),
    /// A worker wasn't ready within the start timeout.
    StartTimedOut(WorkerId),
    /// A worker hadn't stopped at its deadline.
    StopTimedOut(WorkerId),
    /// The main context wasn't left at its deadline.
    MainTimedOut,
    /// A worker was killed and is still not gone. From here on it counts as gone.
    Stuck {
        /// The worker.
        id: WorkerId,
        /// How many there have been so far.
        total: usize,
    },
    /// A worker returned without having been asked: a failure.
    ReturnedUnasked(WorkerId),
    /// A worker failed; its role is filled again after a backoff.
    Backoff {
        /// The role.
        role: Role,
        /// How long.
        delay: Duration,
    },
    /// A role failed more often than it may, so the server stops.
    TooManyFailures {
        /// The role.
        role: Role,
        /// How often it failed within the restart window.
        failures: usize,
    },
    /// A worker failed; its role stays vacant.
    Vacant(Role),
    /// A rolling restart of this many slots begins.
    RollStarted {
        /// How many.
        slots: usize,
        /// The executable that they get, with process workers.
        image: Image,
    },
    /// The rolling restart is complete.
    RollDone,
    /// A successor failed to start, so the rolling restart ends here.
    RollGivenUp {
        /// The slot.
        slot: usize,
        /// Whether slots now run different images.
        mixed: bool,
    },
    /// The number of workers changed.
    Scaled {
        /// How many there were.
        from: usize,
        /// How many there are to be.
        to: usize,
    },
    /// No more, or no fewer, workers than there are.
    ScaleLimit {
        /// How many there are to be.
        workers: usize,
    },
}

/// The supervisor's state machine.
#[derive(Debug)]
pub(crate) struct Policy {
    config: Config,
    state: State,
    /// Whether the main context has been entered and not yet been left.
    main: bool,
    /// By index. Those from `target` on are on their way out.
    slots: Vec<Place>,
    extras: Vec<Place>,
    workers: BTreeMap<WorkerId, Worker>,
    next_id: u64,
    /// The image of new slots: of the last roll that was completed.
    image: Image,
    last_image: Image,
    roll: Option<Roll>,
    /// A SIGHUP waits for its roll.
    reload: bool,
    /// How many slots there are to be now, and how many once the present roll is over.
    target: usize,
    wanted: usize,
    first_signal: Option<Duration>,
    /// Whether a worker has run to completion.
    completed: bool,
    stuck: usize,
    actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Entering,
    /// Until all workers and extras are ready for the first time.
    Starting,
    Serving,
    Stopping(Stopping),
    /// Everything is killed; waits for what can be reaped by then.
    Forced {
        signal: Signal,
        by: Duration,
    },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stopping {
    reason: StopReason,
    /// The end of the budget.
    end: Duration,
    /// The first cause.
    code: i32,
    timed_out: bool,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Workers,
    Extras,
    Main { by: Duration },
}

#[derive(Clone, Debug)]
struct Worker {
    role: Role,
    image: Image,
    phase: Phase,
    ready_at: Option<Duration>,
    /// The stop signal that it reported: from then on its end is no failure.
    asked: Option<Signal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting {
        since: Duration,
        by: Duration,
        parked: bool,
    },
    Ready,
    /// Has been told to stop.
    Draining {
        by: Duration,
    },
    /// Counts as gone by then.
    Killed {
        by: Duration,
        /// Whether what it was killed for is a failure.
        failed: bool,
    },
}

/// What fills a role.
#[derive(Debug)]
struct Place {
    /// The image that it was last ready with.
    image: Image,
    current: Option<WorkerId>,
    /// A roll's successor, until it is ready.
    next: Option<WorkerId>,
    /// Those that have, or will have, nothing to follow.
    leaving: Vec<WorkerId>,
    /// When a vacant place is filled again.
    retry_at: Option<Duration>,
    /// Isn't filled again: ran to completion, or failed with `on_failure = ignore`.
    out: bool,
    completed: bool,
    /// A worker has been ready here, or gone before it was, so that there may be sockets which nobody accepts from.
    served: bool,
    /// Since when none has been ready here, once it failed.
    vacant_since: Option<Duration>,
    /// When it failed, within the restart window.
    failures: VecDeque<Duration>,
    /// Failures since it last was ready for the restart window.
    streak: u32,
}

impl Place {
    fn new(image: Image) -> Place {
        Place {
            image,
            current: None,
            next: None,
            leaving: Vec::new(),
            retry_at: None,
            out: false,
            completed: false,
            served: false,
            vacant_since: None,
            failures: VecDeque::new(),
            streak: 0,
        }
    }

    fn live(&self) -> usize {
        usize::from(self.current.is_some()) + usize::from(self.next.is_some()) + self.leaving.len()
    }

    /// When to spawn, unless two of its workers have yet to leave.
    fn spawn_at(&self) -> Option<Duration> {
        self.retry_at
            .filter(|_| self.current.is_none() && self.live() < 2)
    }
}

#[derive(Debug)]
struct Roll {
    image: Image,
    /// A SIGHUP's, not a single worker's.
    all: bool,
    remaining: VecDeque<usize>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// On to the next slot.
    Next,
    /// Until those that already leave this slot are gone.
    Waiting(usize),
    /// Until this successor is ready.
    Starting(WorkerId),
    /// Until this predecessor is gone.
    Draining(WorkerId),
}

impl Policy {
    pub(crate) fn new(config: Config) -> Policy {
        let workers = config.workers;
        Policy {
            state: State::New,
            main: false,
            slots: (0..workers).map(|_| Place::new(Image(0))).collect(),
            extras: config
                .extra_sync
                .iter()
                .map(|_| Place::new(Image(0)))
                .collect(),
            workers: BTreeMap::new(),
            next_id: 0,
            image: Image(0),
            last_image: Image(0),
            roll: None,
            reload: false,
            target: workers,
            wanted: workers,
            first_signal: None,
            completed: false,
            stuck: 0,
            actions: Vec::new(),
            config,
        }
    }

    /// The first call, and only once.
    pub(crate) fn start(&mut self, now: Duration) -> Vec<Action> {
        if self.config.has_main {
            self.state = State::Entering;
            self.push(Action::EnterMain);
        } else {
            self.spawn_all(now);
        }
        self.take()
    }

    /// Something happened. What happened before a deadline is told before [`tick`](Policy::tick).
    pub(crate) fn on(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::MainEntered => {
                if self.state == State::Entering {
                    self.main = true;
                    self.spawn_all(now);
                }
            }
            Event::MainFailed => self.main_gone(now, Ending::Failed),
            Event::MainLeft(ending) => self.main_gone(now, ending),
            Event::Ready(id) => self.ready(now, id),
            Event::Ending(id, ending) => self.ending(now, id, ending),
            Event::Ended(id, ending) => self.ended(now, id, ending),
            Event::Hung(id) => self.hung(now, id),
            Event::WorkerSignalled(id, signal) => self.worker_signalled(now, id, signal),
            Event::StopSignal(signal) => self.stop_signal(now, signal),
            Event::Reload => {
                if self.is_before_stop() {
                    self.reload = true;
                }
            }
            Event::ScaleUp => self.want(self.wanted + 1),
            Event::ScaleDown => self.want(self.wanted.saturating_sub(1)),
            Event::Tell => self.tell(),
        }
        self.settle(now);
        self.take()
    }

    /// Acts on the deadlines that are due. Call it again if
    /// [`next_deadline`](Policy::next_deadline) still is.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Action> {
        match self.state {
            State::Forced { signal, by } if by <= now => self.exit(128 + signal.as_raw()),
            State::Stopping(Stopping {
                step: Step::Main { by },
                ..
            }) if by <= now => {
                self.push(Action::Report(Report::MainTimedOut));
                self.exit(3);
            }
            State::Stopping(stopping) if self.last_call(&stopping) <= now => self.abandon(now),
            _ => {}
        }
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            self.judge(now, id);
        }
        self.settle(now);
        self.take()
    }

    /// When to call [`tick`](Policy::tick), if nothing happens before. Times beyond the driver's
    /// clock are never.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let state = match self.state {
            State::Done => return None,
            State::Forced { by, .. } => return Some(by),
            State::Stopping(Stopping {
                step: Step::Main { by },
                ..
            }) => Some(by),
            State::Stopping(stopping) => Some(self.last_call(&stopping)),
            _ => None,
        };
        let workers = self
            .workers
            .values()
            .filter_map(|worker| match worker.phase {
                Phase::Starting { by, .. } if self.is_running() => {
                    Some(self.park_at(worker).map_or(by, |at| by.min(at)))
                }
                Phase::Draining { by } | Phase::Killed { by, .. } => Some(by),
                _ => None,
            });
        let retries = self
            .places()
            .filter_map(Place::spawn_at)
            .filter(|_| self.is_running());
        state.into_iter().chain(workers).chain(retries).min()
    }

    /// The driver was out for this long (suspend, SIGSTOP): nobody could act in that time, so it
    /// counts for nothing.
    pub(crate) fn gap(&mut self, by: Duration) {
        let shift = |time: &mut Duration| *time = time.saturating_add(by);
        match &mut self.state {
            State::Forced { by, .. } => shift(by),
            State::Stopping(stopping) => {
                shift(&mut stopping.end);
                if let Step::Main { by } = &mut stopping.step {
                    shift(by);
                }
            }
            _ => {}
        }
        for worker in self.workers.values_mut() {
            worker.ready_at.iter_mut().for_each(shift);
            match &mut worker.phase {
                Phase::Starting { since, by, .. } => {
                    shift(since);
                    shift(by);
                }
                Phase::Draining { by } | Phase::Killed { by, .. } => shift(by),
                Phase::Ready => {}
            }
        }
        for place in self.slots.iter_mut().chain(&mut self.extras) {
            place
                .retry_at
                .iter_mut()
                .chain(&mut place.vacant_since)
                .chain(&mut place.failures)
                .for_each(shift);
        }
        self.first_signal.iter_mut().for_each(shift);
    }

    /// Whether a worker that runs, or one still to be spawned, is of this image.
    #[cfg_attr(not(any(feature = "process", test)), expect(dead_code))]
    pub(crate) fn uses(&self, image: Image) -> bool {
        self.image == image
            || self.roll.as_ref().is_some_and(|roll| roll.image == image)
            || self.places().any(|place| place.image == image)
            || self.workers.values().any(|worker| worker.image == image)
    }

    /// When [`Action::Exit`] will have come, for a watchdog: known once the server stops.
    pub(crate) fn hard_end(&self) -> Option<Duration> {
        match self.state {
            State::Stopping(stopping) => Some(stopping.end.saturating_add(GRACE)),
            State::Forced { by, .. } => Some(by),
            _ => None,
        }
    }

    /// The exit code if the server had to be ended now, its time over.
    pub(crate) fn exit_code(&self) -> i32 {
        match self.state {
            State::Forced { signal, .. } => 128 + signal.as_raw(),
            _ => 3,
        }
    }

    /// How many workers there are to be.
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    fn spawn_all(&mut self, now: Duration) {
        self.state = State::Starting;
        for extra in 0..self.extras.len() {
            self.spawn_current(now, Role::Extra(extra), Image(0));
        }
        for slot in 0..self.target {
            self.spawn_current(now, Role::Slot(slot), Image(0));
        }
    }

    fn spawn(&mut self, now: Duration, role: Role, image: Image) -> WorkerId {
        let id = WorkerId(self.next_id);
        self.next_id += 1;
        let (phase, ready_at) = match role {
            Role::Extra(extra) if self.config.extra_sync[extra] => (Phase::Ready, Some(now)),
            _ => {
                let by = now.saturating_add(self.config.start_timeout);
                let (since, parked) = (now, false);
                (Phase::Starting { since, by, parked }, None)
            }
        };
        let worker = Worker {
            role,
            image,
            phase,
            ready_at,
            asked: None,
        };
        self.workers.insert(id, worker);
        self.push(Action::Spawn { id, role, image });
        id
    }

    fn spawn_current(&mut self, now: Duration, role: Role, image: Image) -> WorkerId {
        let id = self.spawn(now, role, image);
        let place = self.place(role);
        place.current = Some(id);
        place.retry_at = None;
        place.out = false;
        id
    }

    fn ready(&mut self, now: Duration, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Phase::Starting { .. } = worker.phase else {
            return;
        };
        worker.phase = Phase::Ready;
        worker.ready_at = Some(now);
        let (role, image) = (worker.role, worker.image);
        if !self.is_running() {
            return;
        }
        self.push(Action::CloseUnasked(id));
        let place = self.place(role);
        place.image = image;
        place.served = true;
        place.vacant_since = None;
        let mut stage = Stage::Next;
        if place.next == Some(id) {
            place.next = None;
            if let Some(old) = place.current.replace(id) {
                place.leaving.push(old);
                stage = Stage::Draining(old);
                let worker = &self.workers[&old];
                let (asked, ready_at) = (worker.asked, worker.ready_at);
                self.forgive(now, role, ready_at);
                let reason = asked.map_or(StopReason::Restart, StopReason::Signal);
                let by = now.saturating_add(self.config.shutdown_timeout);
                self.stop_worker(old, reason, by);
            }
        }
        if let Some(roll) = self.roll_of(id) {
            roll.stage = stage;
        }
    }

    /// Its place is vacant from now on, not only once the worker is gone.
    fn ending(&mut self, now: Duration, id: WorkerId, ending: Ending) {
        let Some(worker) = self.workers.get(&id).cloned() else {
            return;
        };
        let unasked =
            matches!(worker.phase, Phase::Starting { .. } | Phase::Ready) && worker.asked.is_none();
        let completes = self.config.run_to_completion && !ending.has_failed();
        // Of an extra there is never more than one at a time, so its place is vacant when it is gone.
        let is_extra = matches!(worker.role, Role::Extra(_));
        if !self.is_running() || !unasked || completes || is_extra {
            return;
        }
        self.vacated(now, id, &worker, ending);
        if self.is_running() {
            // What it has still to do may wait for a stop.
            let by = now.saturating_add(self.config.shutdown_timeout);
            self.stop_worker(id, StopReason::Failure, by);
        }
        let place = self.place(worker.role);
        place.leaving.push(id);
        // Its successor has to wait for one of those to go.
        if place.served && place.live() >= 2 && place.current.is_none() && self.is_running() {
            self.push(Action::Park(worker.role));
        }
    }

    fn ended(&mut self, now: Duration, id: WorkerId, ending: Ending) {
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        match &mut self.state {
            State::Stopping(stopping) => {
                let failed = match worker.phase {
                    Phase::Killed { failed, .. } => failed,
                    _ => ending.has_failed(),
                };
                if failed && stopping.code == 0 {
                    stopping.code = 1;
                }
                stopping.timed_out |= ending.has_overrun();
                self.advance_stop(now);
            }
            State::Forced { signal, .. } => {
                let code = 128 + signal.as_raw();
                if self.workers.is_empty() {
                    self.exit(code);
                }
            }
            _ => self.vacated(now, id, &worker, ending),
        }
    }

    /// A worker is gone, or as good as gone, while the server runs.
    fn vacated(&mut self, now: Duration, id: WorkerId, worker: &Worker, ending: Ending) {
        let role = worker.role;
        let place = self.place(role);
        if let Some(position) = place.leaving.iter().position(|leaving| *leaving == id) {
            place.leaving.remove(position);
            return;
        }
        self.forgive(now, role, worker.ready_at);
        self.unpark(role);
        let place = self.place(role);
        // It may have listened before it was ready.
        place.served = true;
        let killed_for_failure = matches!(worker.phase, Phase::Killed { failed: true, .. });
        let asked = !killed_for_failure
            && (ending == Ending::KilledByStopSignal
                || worker.asked.is_some()
                || matches!(worker.phase, Phase::Draining { .. } | Phase::Killed { .. }));
        if place.next == Some(id) {
            place.next = None;
            if asked {
                let successor = self.spawn(now, role, worker.image);
                self.place(role).next = Some(successor);
                self.set_stage(Stage::Starting(successor));
            } else {
                if !ending.has_failed() && !killed_for_failure {
                    self.push(Action::Report(Report::ReturnedUnasked(id)));
                }
                self.give_up_roll(role);
            }
            return;
        }
        place.current = place.next.take();
        if place.current.is_some() {
            // A roll's successor is on its way: whatever this was, it is already being mended.
            return;
        }
        let in_roll = self.roll_of(id).is_some();
        if asked {
            let successor = self.spawn_current(now, role, worker.image);
            if in_roll {
                self.set_stage(Stage::Starting(successor));
            }
            return;
        }
        if in_roll {
            self.give_up_roll(role);
        }
        if !ending.has_failed() && !killed_for_failure {
            if self.config.run_to_completion {
                self.completed |= matches!(role, Role::Slot(_));
                self.place(role).completed = true;
                self.vacate(now, role);
                return;
            }
            self.push(Action::Report(Report::ReturnedUnasked(id)));
        }
        self.failed(now, role);
    }

    fn failed(&mut self, now: Duration, role: Role) {
        match self.config.on_failure {
            _ if self.state == State::Starting => self.stop(now, StopReason::Failure, 1),
            OnFailure::Shutdown => self.stop(now, StopReason::Failure, 1),
            OnFailure::Ignore => {
                self.vacate(now, role);
                if self.is_running() {
                    self.push(Action::Report(Report::Vacant(role)));
                }
            }
            OnFailure::Restart => self.back_off(now, role),
        }
    }

    fn back_off(&mut self, now: Duration, role: Role) {
        let (window, limit, jitter) = (
            self.config.restart_window,
            self.config.max_restarts,
            self.config.jitter,
        );
        let place = self.place(role);
        place
            .failures
            .retain(|failure| now.saturating_sub(*failure) < window);
        place.failures.push_back(now);
        let failures = place.failures.len();
        if failures > limit as usize {
            self.push(Action::Report(Report::TooManyFailures { role, failures }));
            self.stop(now, StopReason::Failure, 4);
            return;
        }
        let doublings = 2_u32.saturating_pow(place.streak);
        let delay = jitter(BACKOFF_MIN.saturating_mul(doublings).min(BACKOFF_MAX));
        place.streak = place.streak.saturating_add(1);
        let retry_at = now.saturating_add(delay);
        place.retry_at = Some(retry_at);
        let vacant_since = *place.vacant_since.get_or_insert(now);
        let park = place.served && retry_at.saturating_sub(vacant_since) > PARK_BACKOFF;
        self.push(Action::Report(Report::Backoff { role, delay }));
        if park {
            self.push(Action::Park(role));
        }
    }

    /// A worker that was ready for long enough makes up for the failures before it.
    fn forgive(&mut self, now: Duration, role: Role, ready_at: Option<Duration>) {
        let window = self.config.restart_window;
        if ready_at.is_some_and(|at| now.saturating_sub(at) >= window) {
            self.place(role).streak = 0;
        }
    }

    /// A worker that is gone may have had the sockets listen again.
    fn unpark(&mut self, role: Role) {
        let place = self.place(role);
        for id in [place.current, place.next].into_iter().flatten() {
            let worker = self.workers.get_mut(&id);
            if let Some(Phase::Starting { parked, .. }) = worker.map(|worker| &mut worker.phase) {
                *parked = false;
            }
        }
    }

    /// A place is not filled again. With no worker left, the server has nothing to do.
    fn vacate(&mut self, now: Duration, role: Role) {
        let place = self.place(role);
        place.out = true;
        place.served = false;
        self.push(Action::Close(role));
        if self.slots[..self.target].iter().all(|slot| slot.out) {
            let (reason, code) = if self.completed {
                (StopReason::Completed, 0)
            } else {
                (StopReason::Failure, 1)
            };
            self.stop(now, reason, code);
        }
    }

    fn hung(&mut self, now: Duration, id: WorkerId) {
        // A blocked thread can't be ended, and its future not be dropped.
        if self.is_ready(Some(id))
            && self.is_running()
            && self.config.isolation == Isolation::Process
        {
            self.kill(now, id, true);
        }
    }

    fn worker_signalled(&mut self, now: Duration, id: WorkerId, signal: Signal) {
        if !self.is_running() {
            return;
        }
        let by = now.saturating_add(self.config.shutdown_timeout);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.asked.is_some() || !matches!(worker.phase, Phase::Starting { .. } | Phase::Ready)
        {
            return;
        }
        worker.asked = Some(signal);
        // Two of an extra at once may be one too many: it has a port of its own, perhaps. It goes
        // before it comes.
        if matches!(worker.role, Role::Extra(_)) {
            self.stop_worker(id, StopReason::Signal(signal), by);
        }
    }

    fn want(&mut self, workers: usize) {
        if !self.is_before_stop() {
            return;
        }
        let wanted = workers.clamp(1, self.config.max_workers.max(1));
        if wanted == self.wanted {
            self.push(Action::Report(Report::ScaleLimit { workers: wanted }));
        }
        self.wanted = wanted;
    }

    fn tell(&mut self) {
        for (id, worker) in &self.workers {
            if !matches!(worker.phase, Phase::Killed { .. }) {
                self.actions.push(Action::Tell(*id));
            }
        }
    }

    fn stop_signal(&mut self, now: Duration, signal: Signal) {
        let first = *self.first_signal.get_or_insert(now);
        match self.state {
            State::Entering => {
                let (reason, by) = (
                    StopReason::Signal(signal),
                    now.saturating_add(self.config.shutdown_timeout),
                );
                let step = Step::Main { by };
                self.main = true;
                self.state = State::Stopping(Stopping {
                    reason,
                    end: by,
                    code: 0,
                    timed_out: false,
                    step,
                });
                self.push(Action::Report(Report::Stopping { reason, by }));
                self.push(Action::DropEnter { reason, by });
            }
            State::Starting | State::Serving => self.stop(now, StopReason::Signal(signal), 0),
            State::Stopping(_) if now.saturating_sub(first) > SAME_SIGNAL => {
                self.force(now, signal)
            }
            _ => {}
        }
    }

    /// Begins the graceful stop.
    fn stop(&mut self, now: Duration, reason: StopReason, code: i32) {
        let end = now.saturating_add(self.config.shutdown_timeout);
        let stopping = Stopping {
            reason,
            end,
            code,
            timed_out: false,
            step: Step::Workers,
        };
        self.state = State::Stopping(stopping);
        self.push(Action::Report(Report::Stopping { reason, by: end }));
        for slot in 0..self.slots.len() {
            self.push(Action::Close(Role::Slot(slot)));
        }
        // Else the extras would be killed for time that the workers took.
        let extras_share = if self.has_live_extra() {
            GRACE.min(self.config.shutdown_timeout / 4)
        } else {
            Duration::ZERO
        };
        let by = self.extras_by(&stopping).saturating_sub(extras_share);
        let workers = self.ids_of(|role| matches!(role, Role::Slot(_)));
        for id in workers {
            self.stop_worker(id, reason, by);
        }
        self.advance_stop(now);
    }

    fn advance_stop(&mut self, now: Duration) {
        let State::Stopping(mut stopping) = self.state else {
            return;
        };
        if stopping.step == Step::Workers
            && self.ids_of(|role| matches!(role, Role::Slot(_))).is_empty()
        {
            stopping.step = Step::Extras;
            for extra in 0..self.extras.len() {
                self.push(Action::Close(Role::Extra(extra)));
            }
            for id in self.ids_of(|_| true) {
                self.stop_worker(id, stopping.reason, self.extras_by(&stopping).max(now));
            }
        }
        if stopping.step == Step::Extras && self.workers.is_empty() {
            let by = stopping.end.max(now.saturating_add(GRACE));
            stopping.step = Step::Main { by };
            if self.main {
                self.push(Action::LeaveMain {
                    reason: stopping.reason,
                    by,
                });
            }
        }
        self.state = State::Stopping(stopping);
        if !self.main && matches!(stopping.step, Step::Main { .. }) {
            self.exit(if stopping.timed_out { 3 } else { stopping.code });
        }
    }

    fn main_gone(&mut self, now: Duration, ending: Ending) {
        self.main = false;
        match &mut self.state {
            State::Entering => self.exit(2),
            State::Starting | State::Serving => self.stop(now, StopReason::Failure, 2),
            State::Stopping(stopping) => {
                if ending.has_failed() && stopping.code == 0 {
                    stopping.code = 2;
                }
                stopping.timed_out |= ending.has_overrun();
                self.advance_stop(now);
            }
            State::New | State::Forced { .. } | State::Done => {}
        }
    }

    fn force(&mut self, now: Duration, signal: Signal) {
        self.push(Action::Report(Report::Forced(signal)));
        // Threads end with the process.
        if self.config.isolation == Isolation::Thread || self.workers.is_empty() {
            self.exit(128 + signal.as_raw());
            return;
        }
        let by = self
            .hard_end()
            .unwrap_or(Duration::MAX)
            .min(now.saturating_add(GRACE));
        self.state = State::Forced { signal, by };
        for id in self.ids_of(|_| true) {
            if !matches!(self.workers[&id].phase, Phase::Killed { .. }) {
                self.kill(now, id, false);
            }
        }
    }

    /// The budget is at its end and workers are still there: what is left of it is the main
    /// context's.
    fn abandon(&mut self, now: Duration) {
        for (id, worker) in std::mem::take(&mut self.workers) {
            if matches!(worker.phase, Phase::Killed { .. }) {
                self.report_stuck(id);
            } else {
                self.push(Action::Kill(id));
            }
        }
        self.time_out();
        self.advance_stop(now);
    }

    fn judge(&mut self, now: Duration, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        match worker.phase {
            Phase::Starting { by, .. } if by <= now && self.is_running() => {
                self.push(Action::Report(Report::StartTimedOut(id)));
                self.kill(now, id, true);
            }
            Phase::Starting { since, by, .. } if self.is_running() => {
                let role = worker.role;
                if self.park_at(worker).is_some_and(|park_at| park_at <= now) {
                    let parked = true;
                    self.set_phase(id, Phase::Starting { since, by, parked });
                    self.push(Action::Park(role));
                }
            }
            Phase::Draining { by } if by <= now => {
                self.push(Action::Report(Report::StopTimedOut(id)));
                self.time_out();
                self.kill(now, id, false);
            }
            Phase::Killed { by, .. } if by <= now => {
                self.report_stuck(id);
                self.time_out();
                self.ended(now, id, Ending::Failed);
            }
            _ => {}
        }
    }

    /// Does what was put off, and can be done now.
    fn settle(&mut self, now: Duration) {
        if self.state == State::Starting && self.all_ready() {
            self.state = State::Serving;
            self.push(Action::Report(Report::AllReady));
        }
        if self.state == State::Serving {
            while self.advance_roll(now) || self.begin_waiting(now) {}
        }
        if self.is_running() {
            let slots = (0..self.target).map(Role::Slot);
            let due: Vec<Role> = slots
                .chain((0..self.extras.len()).map(Role::Extra))
                .filter(|role| self.place_ref(*role).spawn_at().is_some_and(|at| at <= now))
                .collect();
            for role in due {
                let image = self.place_ref(role).image;
                self.spawn_current(now, role, image);
            }
            while self.slots.len() > self.target
                && self.slots.last().is_some_and(|slot| slot.live() == 0)
            {
                self.slots.pop();
            }
        }
    }

    /// Takes the roll one step further. Whether there was one to take.
    fn advance_roll(&mut self, now: Duration) -> bool {
        let Some(roll) = &mut self.roll else {
            return false;
        };
        let image = roll.image;
        match roll.stage {
            Stage::Next => match roll.remaining.pop_front() {
                Some(slot) if self.slots[slot].completed => {}
                Some(slot) => roll.stage = Stage::Waiting(slot),
                None => {
                    if roll.all {
                        self.image = image;
                    }
                    self.roll = None;
                    self.push(Action::Report(Report::RollDone));
                }
            },
            Stage::Waiting(slot) => {
                if !self.slots[slot].leaving.is_empty() {
                    return false;
                }
                let role = Role::Slot(slot);
                let successor = if self.slots[slot].current.is_some() {
                    let successor = self.spawn(now, role, image);
                    self.slots[slot].next = Some(successor);
                    successor
                } else {
                    self.spawn_current(now, role, image)
                };
                self.set_stage(Stage::Starting(successor));
            }
            Stage::Draining(old) if !self.workers.contains_key(&old) => roll.stage = Stage::Next,
            Stage::Starting(_) | Stage::Draining(_) => return false,
        }
        true
    }

    /// Begins what waited for the roll to end. Whether there was something.
    fn begin_waiting(&mut self, now: Duration) -> bool {
        if self.roll.is_some() {
            return false;
        }
        if self.wanted != self.target {
            self.scale(now);
            return true;
        }
        let (all, slots, image) = if self.reload {
            self.reload = false;
            self.last_image.0 += 1;
            (
                true,
                (0..self.target).collect::<VecDeque<_>>(),
                self.last_image,
            )
        } else {
            let asked = (0..self.target).find(|slot| self.is_asked(*slot));
            let Some(slot) = asked else { return false };
            (false, VecDeque::from([slot]), self.slots[slot].image)
        };
        self.push(Action::Report(Report::RollStarted {
            slots: slots.len(),
            image,
        }));
        self.roll = Some(Roll {
            image,
            all,
            remaining: slots,
            stage: Stage::Next,
        });
        true
    }

    fn is_asked(&self, slot: usize) -> bool {
        let worker = self.slots[slot]
            .current
            .and_then(|id| self.workers.get(&id));
        worker.is_some_and(|worker| {
            worker.asked.is_some() && !matches!(worker.phase, Phase::Killed { .. })
        })
    }

    fn give_up_roll(&mut self, role: Role) {
        let (Some(roll), Role::Slot(slot)) = (self.roll.take(), role) else {
            return;
        };
        let current = self.slots[slot].current;
        if let Some(worker) = current.and_then(|id| self.workers.get_mut(&id)) {
            if !roll.all {
                // Else it would be tried again at once, for ever.
                worker.asked = None;
            }
        }
        let mut images = self
            .slots
            .iter()
            .filter(|slot| slot.current.is_some())
            .map(|slot| slot.image);
        let first = images.next();
        let mixed = images.any(|image| Some(image) != first);
        self.push(Action::Report(Report::RollGivenUp { slot, mixed }));
    }

    fn scale(&mut self, now: Duration) {
        let (from, to) = (self.target, self.wanted);
        if to < from && self.slots[..to].iter().all(|slot| slot.out) {
            // Those that would be left are vacant.
            self.wanted = from;
            self.push(Action::Report(Report::ScaleLimit { workers: from }));
            return;
        }
        self.target = to;
        self.push(Action::Report(Report::Scaled { from, to }));
        for slot in from..to {
            let leaving = self
                .slots
                .get_mut(slot)
                .map(|slot| std::mem::take(&mut slot.leaving));
            let place = Place {
                leaving: leaving.unwrap_or_default(),
                retry_at: Some(now),
                ..Place::new(self.image)
            };
            if slot < self.slots.len() {
                self.slots[slot] = place;
            } else {
                self.slots.push(place);
            }
        }
        for slot in (to..from).rev() {
            self.push(Action::Close(Role::Slot(slot)));
            let place = &mut self.slots[slot];
            place.retry_at = None;
            if let Some(id) = place.current.take() {
                place.leaving.push(id);
                self.stop_worker(
                    id,
                    StopReason::ScaleDown,
                    now.saturating_add(self.config.shutdown_timeout),
                );
            }
        }
    }

    /// Tells a worker to stop, unless it has been told.
    fn stop_worker(&mut self, id: WorkerId, reason: StopReason, by: Duration) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        match &mut worker.phase {
            Phase::Starting { .. } | Phase::Ready => {
                worker.phase = Phase::Draining { by };
                self.push(Action::Stop { id, reason, by });
            }
            Phase::Draining { by: earlier } => *earlier = by.min(*earlier),
            Phase::Killed { .. } => {}
        }
    }

    fn kill(&mut self, now: Duration, id: WorkerId, failed: bool) {
        let mut by = now.saturating_add(GRACE);
        if let State::Stopping(stopping) = &self.state {
            by = by.min(self.last_call(stopping));
        }
        self.set_phase(id, Phase::Killed { by, failed });
        self.push(Action::Kill(id));
    }

    fn set_phase(&mut self, id: WorkerId, phase: Phase) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.phase = phase;
        }
    }

    fn report_stuck(&mut self, id: WorkerId) {
        self.stuck += 1;
        self.push(Action::Report(Report::Stuck {
            id,
            total: self.stuck,
        }));
    }

    fn time_out(&mut self) {
        if let State::Stopping(stopping) = &mut self.state {
            stopping.timed_out = true;
        }
    }

    fn exit(&mut self, code: i32) {
        self.state = State::Done;
        self.workers.clear();
        self.push(Action::Exit(code));
    }

    /// What of the budget is kept for the main context, which gets [`GRACE`] whatever is left of it.
    fn main_share(&self) -> Duration {
        if self.main {
            GRACE.min(self.config.shutdown_timeout / 2)
        } else {
            Duration::ZERO
        }
    }

    fn extras_by(&self, stopping: &Stopping) -> Duration {
        stopping.end.saturating_sub(self.main_share())
    }

    /// When workers and extras that are not gone are no longer waited for.
    fn last_call(&self, stopping: &Stopping) -> Duration {
        if self.main {
            stopping.end
        } else {
            stopping.end.saturating_add(GRACE)
        }
    }

    /// When the sockets left by the predecessors of this starting worker are parked.
    fn park_at(&self, worker: &Worker) -> Option<Duration> {
        let Phase::Starting {
            since,
            parked: false,
            ..
        } = worker.phase
        else {
            return None;
        };
        let place = self.place_ref(worker.role);
        let vacant = place.served && !self.is_ready(place.current);
        vacant.then(|| since.saturating_add(PARK_STARTING))
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Starting | State::Serving)
    }

    fn is_before_stop(&self) -> bool {
        self.is_running() || self.state == State::Entering
    }

    fn is_ready(&self, id: Option<WorkerId>) -> bool {
        let worker = id.and_then(|id| self.workers.get(&id));
        worker.is_some_and(|worker| worker.phase == Phase::Ready)
    }

    fn all_ready(&self) -> bool {
        let mut places = self.slots[..self.target].iter().chain(&self.extras);
        places.all(|place| place.out || self.is_ready(place.current))
    }

    /// The roll, if it waits for this worker to be ready.
    fn roll_of(&mut self, id: WorkerId) -> Option<&mut Roll> {
        self.roll
            .as_mut()
            .filter(|roll| matches!(roll.stage, Stage::Starting(successor) if successor == id))
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(roll) = &mut self.roll {
            roll.stage = stage;
        }
    }

    fn place(&mut self, role: Role) -> &mut Place {
        match role {
            Role::Slot(slot) => &mut self.slots[slot],
            Role::Extra(extra) => &mut self.extras[extra],
        }
    }

    fn place_ref(&self, role: Role) -> &Place {
        match role {
            Role::Slot(slot) => &self.slots[slot],
            Role::Extra(extra) => &self.extras[extra],
        }
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.slots.iter().chain(&self.extras)
    }

    fn ids_of(&self, of: impl Fn(Role) -> bool) -> Vec<WorkerId> {
        self.workers
            .iter()
            .filter(|(_, worker)| of(worker.role))
            .map(|(id, _)| *id)
            .collect()
    }

    fn has_live_extra(&self) -> bool {
        self.workers
            .values()
            .any(|worker| matches!(worker.role, Role::Extra(_)))
    }

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
