//! Random histories: a small world that starts, fails, hangs, stops and gets killed as drawn, and
//! an observer that checks each action against what it saw happen.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use std::time::Duration;

use super::event::*;
use super::places::{PARK_BACKOFF, PARK_STARTING};
use super::state::{GRACE, Policy, State};
use super::stopping::SAME_SIGNAL;
use crate::backoff;
use crate::server::OnFailure;
use crate::server::line::Role;
use crate::server::stop::{Signal, StopReason};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a worker does if left alone.
#[derive(Clone, Copy, Debug)]
enum Start {
    Ready(u64),
    Ends(u64, Ending),
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Life {
    Lasts,
    Ends(u64, Ending),
    Hangs(u64),
}

#[derive(Clone, Copy, Debug)]
struct Behaviour {
    start: Start,
    life: Life,
    /// When told to stop; not at all if `None`.
    leaves: Option<(u64, Ending)>,
    /// When killed; stuck if `None`.
    dies: Option<u64>,
}

const TAME: Behaviour = Behaviour {
    start: Start::Ready(10),
    life: Life::Lasts,
    leaves: Some((10, Ending::Clean)),
    dies: Some(1),
};

#[derive(Clone, Copy, Debug)]
struct Main {
    enters: Option<(u64, bool)>,
    leaves: Option<(u64, Ending)>,
}

#[derive(Clone, Copy, Debug)]
enum Outside {
    Event(Event),
    /// A stop signal to one of the workers there are.
    ToWorker(usize, Signal),
    /// One of the workers there are has reached a limit.
    Worn(usize),
    /// Nobody sees anything for so long.
    Gap(u64),
}

#[derive(Clone, Debug)]
struct History {
    config: Config,
    main: Main,
    /// Of the first workers that are spawned; those after them are tame.
    behaviours: Vec<Behaviour>,
    /// Each so long after the one before.
    outside: Vec<(u64, Outside)>,
}

#[derive(Clone, Copy, Debug)]
enum Occurrence {
    Event(Event),
    Outside(Outside),
}

/// What the observer knows of a worker that is not gone.
#[derive(Debug)]
struct Seen {
    role: Role,
    image: Image,
    behaviour: Behaviour,
    ready: bool,
    told: bool,
    asked: bool,
    killed: bool,
    /// Killed for what counts as a failure.
    at_fault: bool,
    /// Has told its end, which has been dealt with.
    ending: bool,
    told_going: bool,
}

impl Seen {
    /// It has told its end; unless it was asked to leave before, its place is filled again at once.
    fn is_vacating(&self) -> bool {
        self.ending && !self.asked
    }

    fn serves(&self) -> bool {
        self.ready && !self.told && !self.is_vacating()
    }
}

struct World {
    policy: Policy,
    config: Config,
    main: Main,
    behaviours: Vec<Behaviour>,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Occurrence>,
    queued: u64,
    workers: BTreeMap<WorkerId, Seen>,
    spawned: BTreeSet<WorkerId>,
    main_alive: bool,
    entering: bool,
    all_ready: bool,
    /// The image of each slot's last ready worker.
    images: BTreeMap<Role, Image>,
    closed: BTreeSet<Role>,
    /// Has sockets that a worker was ready with.
    served: BTreeSet<Role>,
    parked: BTreeSet<Role>,
    /// When a worker last came or went.
    changed_at: BTreeMap<Role, Duration>,
    /// Of those that were to be restarted: who has asked is yet to be told what became of it.
    restarts: BTreeSet<Role>,
    failed_at: BTreeMap<Role, Duration>,
    roll: Option<Image>,
    /// A successor of the supervisor is on its way; in this model it never takes over.
    upgrading: bool,
    given_up: bool,
    /// Those that the present roll has told to stop.
    predecessors: BTreeSet<WorkerId>,
    workers_started: bool,
    /// Extras that have come to their own end.
    completed: BTreeSet<Role>,
    /// `None` for what counts as one.
    first_signal: Option<(Duration, Option<Signal>)>,
    /// Since when it is going.
    going: Option<Duration>,
    /// The latest event, for actions that must answer to it.
    event: Option<Event>,
    stop_timed_out: Option<WorkerId>,
    too_many: bool,
    end: Option<Duration>,
    reason: Option<StopReason>,
    forced: Option<(Duration, Signal)>,
    timed_out: bool,
    cause: i32,
    exit: Option<i32>,
}

impl World {
    fn run(history: History) -> World {
        let History {
            config,
            main,
            behaviours,
            outside,
        } = history;
        let mut world = World {
            policy: Policy::new(config.clone()),
            entering: config.has_main,
            config,
            main,
            behaviours,
            now: ms(1_000_000),
            queue: BTreeMap::new(),
            queued: 0,
            workers: BTreeMap::new(),
            spawned: BTreeSet::new(),
            main_alive: false,
            all_ready: false,
            images: BTreeMap::new(),
            closed: BTreeSet::new(),
            served: BTreeSet::new(),
            parked: BTreeSet::new(),
            changed_at: BTreeMap::new(),
            restarts: BTreeSet::new(),
            failed_at: BTreeMap::new(),
            roll: None,
            upgrading: false,
            given_up: false,
            predecessors: BTreeSet::new(),
            workers_started: false,
            completed: BTreeSet::new(),
            first_signal: None,
            going: None,
            event: None,
            stop_timed_out: None,
            too_many: false,
            end: None,
            reason: None,
            forced: None,
            timed_out: false,
            cause: 0,
            exit: None,
        };
        let mut after = 0;
        for (delay, what) in outside {
            after += delay;
            world.later(after, Occurrence::Outside(what));
        }
        let actions = world.policy.start(world.now);
        world.apply(actions);
        while world.exit.is_none() && world.step() {}
        world
    }

    fn later(&mut self, millis: u64, occurrence: Occurrence) {
        self.queue
            .insert((self.now + ms(millis), self.queued), occurrence);
        self.queued += 1;
    }

    /// On to what happens next. Whether there is anything.
    fn step(&mut self) -> bool {
        let deadline = self.policy.next_deadline();
        let must_end = !matches!(self.policy.state, State::Entering | State::Serving);
        assert!(
            deadline.is_some() || !must_end,
            "no deadline in {:?}",
            self.policy.state
        );
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let Some(at) = deadline.into_iter().chain(queued).min() else {
            return false;
        };
        self.now = self.now.max(at);
        self.check_vacant();
        // What happened is told before deadlines are judged.
        while let Some(entry) = self
            .queue
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let occurrence = entry.remove();
            self.occur(occurrence);
        }
        for ticks in 0.. {
            assert!(ticks < 10, "spins");
            if self
                .policy
                .next_deadline()
                .is_none_or(|deadline| deadline > self.now)
            {
                break;
            }
            self.event = None;
            let actions = self.policy.tick(self.now);
            self.apply(actions);
        }
        true
    }

    /// A vacant slot doesn't swallow connections.
    fn check_vacant(&self) {
        if self.end.is_some() {
            return;
        }
        for role in self.served.difference(&self.parked) {
            let mut workers = self.workers.values().filter(|worker| worker.role == *role);
            if workers
                .clone()
                .any(|worker| worker.killed || worker.serves())
            {
                continue;
            }
            let limit = if workers.any(|worker| !worker.told && !worker.is_vacating()) {
                PARK_STARTING
            } else {
                PARK_BACKOFF
            };
            assert!(
                self.now <= self.changed_at[role] + limit,
                "{role:?} is vacant and not parked"
            );
        }
    }

    fn occur(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Event(event) => self.tell(event),
            Occurrence::Outside(Outside::Event(event)) => self.tell(event),
            Occurrence::Outside(Outside::ToWorker(which, signal)) => {
                let count = self.workers.len().max(1);
                if let Some(id) = self.workers.keys().nth(which % count).copied() {
                    self.tell(Event::WorkerSignalled(id, signal));
                }
            }
            Occurrence::Outside(Outside::Worn(which)) => {
                let count = self.workers.len().max(1);
                if let Some(id) = self.workers.keys().nth(which % count).copied() {
                    self.tell(Event::Worn(id, Worn::Connections(1)));
                }
            }
            Occurrence::Outside(Outside::Gap(millis)) => {
                let by = ms(millis);
                self.now += by;
                let deadline = self.policy.next_deadline();
                self.policy.gap(by);
                assert_eq!(
                    self.policy.next_deadline(),
                    deadline.map(|deadline| deadline + by)
                );
                let times = self
                    .failed_at
                    .values_mut()
                    .chain(self.changed_at.values_mut());
                for time in self.end.iter_mut().chain(&mut self.going).chain(times) {
                    *time += by;
                }
                let first = self.first_signal.iter_mut().map(|(time, _)| time);
                for time in first.chain(self.forced.iter_mut().map(|(time, _)| time)) {
                    *time += by;
                }
            }
        }
    }

    fn tell(&mut self, event: Event) {
        if self.exit.is_some() {
            assert_eq!(self.policy.on(self.now, event), []);
            return;
        }
        match event {
            Event::Ready(id) => match self.workers.get_mut(&id) {
                Some(worker) if !worker.killed => {
                    worker.ready = true;
                    if !worker.told {
                        self.images.insert(worker.role, worker.image);
                        self.parked.remove(&worker.role);
                        if matches!(worker.role, Role::Slot(_)) {
                            self.served.insert(worker.role);
                        }
                    }
                    let life = worker.behaviour.life;
                    match life {
                        // Who is killed has no time to say so.
                        Life::Ends(after, ending @ Ending::KilledByStopSignal) => {
                            self.later(after, Occurrence::Event(Event::Ended(id, ending)));
                        }
                        Life::Ends(after, ending) => {
                            self.later(after, Occurrence::Event(Event::Ending(id, ending)));
                        }
                        Life::Hangs(after) => self.later(after, Occurrence::Event(Event::Hung(id))),
                        Life::Lasts => {}
                    }
                }
                _ => return,
            },
            Event::Ending(id, ending) => {
                let Some(worker) = self.workers.get_mut(&id) else {
                    return;
                };
                let completes = self.config.run_to_completion && !ending.has_failed();
                let late = match worker.behaviour.leaves {
                    Some((after, _)) => after,
                    None => 100_000,
                };
                worker.ending = !(worker.told
                    || completes
                    || self.end.is_some()
                    || matches!(worker.role, Role::Extra(_)));
                let ended = match worker.ending {
                    true => Ending::Clean,
                    false => ending,
                };
                if worker.ending {
                    self.changed_at.insert(worker.role, self.now);
                }
                // One whose place is filled again ends when it is told to stop, and never if it isn't.
                if !worker.is_vacating() {
                    self.later(late, Occurrence::Event(Event::Ended(id, ended)));
                }
            }
            Event::Ended(id, ending) => {
                let Some(worker) = self.workers.remove(&id) else {
                    return;
                };
                self.changed_at.insert(worker.role, self.now);
                let failed = if worker.killed {
                    worker.at_fault
                } else {
                    ending.has_failed()
                };
                if self.end.is_some() && failed && self.cause == 0 {
                    self.cause = 1;
                }
                let counts = self.end.is_some() && self.forced.is_none();
                self.timed_out |= counts && ending.has_overrun();
            }
            Event::Hung(id) => match self.workers.get(&id) {
                Some(worker) if !worker.killed => {}
                _ => return,
            },
            Event::WorkerSignalled(id, _) => {
                if self.end.is_none() && self.going.is_none() {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.asked |= !worker.told && !worker.killed;
                    }
                }
            }
            Event::StopSignal(signal) => {
                self.first_signal.get_or_insert((self.now, Some(signal)));
            }
            Event::MainEntered => {
                self.entering = false;
                self.main_alive = true;
            }
            Event::MainFailed => {
                self.entering = false;
                self.main_alive = false;
                self.cause = 2;
            }
            Event::MainLeft(ending) => {
                self.main_alive = false;
                self.entering = false;
                if ending.has_failed() && self.cause == 0 {
                    self.cause = 2;
                }
                self.timed_out |= ending.has_overrun() && self.end.is_some();
            }
            Event::Drain => {
                self.first_signal.get_or_insert((self.now, None));
            }
            Event::StopRequested
            | Event::StopWithoutDelay
            | Event::Worn(..)
            | Event::Reload
            | Event::ScaleUp
            | Event::ScaleDown
            | Event::Scale(_)
            | Event::Upgrade
            | Event::Succeeded
            | Event::SuccessorDied
            | Event::Tell => {}
            Event::Restart(role) => drop(self.restarts.insert(role)),
            Event::UpgradeOver => self.upgrading = false,
        }
        self.event = Some(event);
        let actions = self.policy.on(self.now, event);
        self.apply(actions);
        // Of a server that is about to stop nobody waits for more than that.
        assert!(
            !self.policy.is_before_stop()
                || self.going.is_some()
                || self.restarts.is_subset(&self.policy.restarts),
            "{:?} are forgotten",
            self.restarts
        );
    }

    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.exit, None, "{action:?} after the exit");
            match action {
                Action::EnterMain => {
                    if let Some((after, ok)) = self.main.enters {
                        let event = if ok {
                            Event::MainEntered
                        } else {
                            Event::MainFailed
                        };
                        self.later(after, Occurrence::Event(event));
                    }
                }
                Action::DropEnter { .. } => {
                    assert!(self.entering);
                    self.queue.retain(|_, occurrence| {
                        !matches!(
                            occurrence,
                            Occurrence::Event(Event::MainEntered | Event::MainFailed)
                        )
                    });
                    self.leave_main();
                }
                Action::LeaveMain { .. } => {
                    assert!(self.main_alive);
                    let over = self.end.is_some_and(|end| end <= self.now);
                    assert!(self.workers.is_empty() || over, "left before its workers");
                    self.leave_main();
                }
                Action::Spawn { id, role, image } => self.spawn(id, role, image),
                Action::Stop { id, reason, by } => self.stop(id, reason, by),
                Action::Kill(id) => self.kill(id),
                Action::Close(role) => {
                    self.closed.insert(role);
                    self.served.remove(&role);
                }
                Action::TellGoing(id) => {
                    assert!(self.going.is_some());
                    let worker = self.workers.get_mut(&id).expect("lives");
                    assert!(!std::mem::replace(&mut worker.told_going, true));
                }
                Action::CloseUnasked(id) | Action::Tell(id) => {
                    assert!(self.workers.contains_key(&id));
                }
                Action::Park(role) => {
                    let ready = |worker: &Seen| {
                        worker.role == role && worker.serves() && !worker.ending && !worker.killed
                    };
                    assert!(!self.workers.values().any(ready), "parked in use");
                    assert!(self.end.is_none());
                    self.parked.insert(role);
                }
                Action::Upgrade => {
                    assert!(self.all_ready && self.end.is_none() && self.going.is_none());
                    assert_eq!(self.roll, None, "an upgrade in a roll");
                    assert!(!std::mem::replace(&mut self.upgrading, true));
                    self.later(700, Occurrence::Event(Event::UpgradeOver));
                }
                Action::AbandonUpgrade => assert!(std::mem::replace(&mut self.upgrading, false)),
                Action::Report(report) => self.report(report),
                Action::Exit(code) => self.exit(code),
            }
        }
    }

    fn leave_main(&mut self) {
        if let Some((after, ending)) = self.main.leaves {
            self.later(after, Occurrence::Event(Event::MainLeft(ending)));
        }
    }

    fn spawn(&mut self, id: WorkerId, role: Role, image: Image) {
        assert!(self.spawned.insert(id), "id reused");
        assert!(self.end.is_none(), "spawned while stopping");
        assert!(!self.entering);
        assert!(self.policy.uses(image));
        let live = self
            .workers
            .values()
            .filter(|worker| worker.role == role)
            .count();
        match role {
            Role::Slot(slot) => {
                assert!(live < 2, "a third worker of a slot");
                assert!(slot < self.config.max_workers.max(self.config.workers));
                let waits = |worker: &Seen| matches!(worker.role, Role::Extra(_)) && !worker.ready;
                assert!(
                    self.workers_started || !self.workers.values().any(waits),
                    "a worker before the extras were ready"
                );
                self.workers_started = true;
            }
            Role::Extra(_) => assert_eq!(live, 0, "an extra twice"),
        }
        assert!(!self.completed.contains(&role), "it has ended");
        if let Some(last) = self.images.get(&role) {
            assert!(
                image == *last || Some(image) == self.roll,
                "a crash changed version"
            );
        }
        if let Some(failed_at) = self.failed_at.remove(&role) {
            let early = self.now < failed_at + backoff::FIRST;
            assert!(!early || self.roll.is_some() || self.config.on_failure == OnFailure::Ignore);
        }
        self.closed.remove(&role);
        self.parked.remove(&role);
        self.changed_at.insert(role, self.now);
        let behaviour = self.behaviours.get(id.0 as usize).copied().unwrap_or(TAME);
        let sync = matches!(role, Role::Extra(extra) if self.config.extra_sync[extra]);
        if sync {
            self.images.insert(role, image);
        }
        match behaviour.start {
            Start::Ready(after) => self.later(after, Occurrence::Event(Event::Ready(id))),
            Start::Ends(after, ending) => {
                self.later(after, Occurrence::Event(Event::Ended(id, ending)));
            }
            Start::Never => {}
        }
        let seen = Seen {
            role,
            image,
            behaviour,
            ready: sync,
            told: false,
            asked: false,
            killed: false,
            at_fault: false,
            ending: false,
            told_going: false,
        };
        self.workers.insert(id, seen);
    }

    fn stop(&mut self, id: WorkerId, reason: StopReason, by: Duration) {
        let stopping = self.end.is_some();
        let slots_live = self
            .workers
            .values()
            .any(|worker| matches!(worker.role, Role::Slot(_)));
        let worker = self.workers.get_mut(&id).expect("lives");
        assert!(!worker.told && !worker.killed, "told twice");
        worker.told = true;
        assert!(by >= self.now);
        if stopping {
            assert_eq!(Some(reason), self.reason);
        }
        match worker.role {
            Role::Slot(_) if stopping || reason == StopReason::ScaleDown => {
                assert!(
                    self.closed.contains(&worker.role),
                    "told before its port was closed"
                );
            }
            // In a roll a ready successor is there.
            Role::Slot(_) if self.roll.is_some() && reason != StopReason::Failure => {
                self.predecessors.insert(id);
                assert!(
                    self.draining() <= self.config.roll_overlap,
                    "too many drain at once"
                );
            }
            Role::Slot(_) => {}
            Role::Extra(_) if stopping => {
                assert!(
                    !slots_live,
                    "an extra was told before the workers were gone"
                );
            }
            Role::Extra(_) => assert!(worker.asked || reason == StopReason::Restart),
        }
        let worker = &self.workers[&id];
        if let Some((after, ending)) = worker.behaviour.leaves {
            let ending = match ending {
                // Told before.
                Ending::Failed | Ending::KilledByStopSignal if worker.ending => Ending::Clean,
                Ending::OverranAndFailed if worker.ending => Ending::Overran,
                other => other,
            };
            self.later(after, Occurrence::Event(Event::Ended(id, ending)));
        }
    }

    fn kill(&mut self, id: WorkerId) {
        let drained = self.stop_timed_out.take() == Some(id);
        let worker = self.workers.get_mut(&id).expect("lives");
        assert!(!worker.killed, "killed twice");
        worker.killed = true;
        worker.at_fault = !drained && self.end.is_none();
        self.timed_out |= self.end.is_some() && self.forced.is_none();
        if let Some(after) = worker.behaviour.dies {
            self.later(after, Occurrence::Event(Event::Ended(id, Ending::Failed)));
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::AllReady => {
                assert!(!std::mem::replace(&mut self.all_ready, true));
                assert!(
                    self.workers
                        .values()
                        .all(|worker| worker.ready || worker.told || worker.ending)
                );
            }
            Report::Going { reason, delay } => {
                assert!(self.all_ready && self.end.is_none());
                assert_eq!(self.going.replace(self.now), None, "twice");
                assert_eq!(delay, self.config.drain_delay);
                assert!(matches!(
                    reason,
                    StopReason::Signal(_) | StopReason::Requested
                ));
                // What has been told to stop goes on to its end.
                self.roll = None;
            }
            Report::Refused(Refused::Upgrade) => assert!(!self.upgrading),
            Report::Refused(_) => assert!(self.going.is_some()),
            Report::UpgradeUnderWay => assert!(self.end.is_none()),
            Report::SuccessorDied => panic!("there was none"),
            Report::Stopping { reason, by } => {
                assert_eq!(self.end.replace(by), None, "stopped twice");
                let was_going = self.going.is_some();
                let since = self.going.take().unwrap_or(self.now);
                assert_eq!(by, since + self.config.shutdown_timeout);
                self.reason = Some(reason);
                match reason {
                    StopReason::Signal(signal) => {
                        let first = self.first_signal.and_then(|(_, first)| first);
                        assert_eq!(first, Some(signal));
                    }
                    StopReason::Failure => self.first_cause(),
                    StopReason::Requested => {
                        let requested = matches!(
                            self.event,
                            Some(Event::StopRequested | Event::Drain | Event::StopWithoutDelay)
                        );
                        assert!(requested || was_going);
                    }
                    StopReason::Completed => assert!(self.config.run_to_completion),
                    reason => panic!("stopped for {reason:?}"),
                }
            }
            Report::Forced(signal) => {
                let (first, _) = self.first_signal.expect("there was a first signal");
                assert!(self.now > first + SAME_SIGNAL && self.end.is_some());
                assert_eq!(self.event, Some(Event::StopSignal(signal)));
                assert_eq!(self.forced.replace((self.now, signal)), None);
            }
            Report::StartTimedOut(id) => assert!(!self.workers[&id].ready),
            Report::StopTimedOut(id) => {
                assert!(self.workers[&id].told || self.workers[&id].ending);
                self.stop_timed_out = Some(id);
            }
            Report::MainTimedOut => self.timed_out = true,
            Report::Stuck { id, .. } => {
                let worker = self.workers.remove(&id).expect("lives");
                assert!(worker.killed);
                self.changed_at.insert(worker.role, self.now);
                self.timed_out |= self.end.is_some();
                if self.end.is_some() && worker.at_fault {
                    self.first_cause();
                }
            }
            Report::ReturnedUnasked(id) => {
                let unasked = match self.event {
                    Some(Event::Ended(of, ending) | Event::Ending(of, ending)) => {
                        of == id && !ending.has_failed()
                    }
                    _ => false,
                };
                assert!(unasked);
                assert_eq!(self.end, None);
            }
            Report::Backoff { role, .. } => {
                assert_eq!(self.config.on_failure, OnFailure::Restart);
                self.failed_at.insert(role, self.now);
            }
            Report::TooManyFailures { failures, .. } => {
                assert!(failures > self.config.max_restarts as usize);
                self.too_many = true;
            }
            Report::Vacant(_) if self.config.on_failure == OnFailure::Ignore => {}
            Report::Vacant(_) => {
                assert!(self.config.run_to_completion);
                self.first_cause();
            }
            Report::SettingsMayDiffer(_) => assert!(self.given_up),
            Report::ExtraEnded(role) => {
                assert!(matches!(role, Role::Extra(_)) && self.end.is_none());
                self.completed.insert(role);
            }
            Report::NotRestarted(role) => drop(self.restarts.remove(&role)),
            Report::RollStarted { image, only, .. } => {
                self.restarts
                    .retain(|role| only.is_some_and(|only| only != *role));
                assert_eq!(self.roll.replace(image), None, "two rolls at once");
                assert_eq!(self.going, None, "a roll of a server that is going");
                assert!(!self.upgrading, "a roll in an upgrade");
                self.predecessors.clear();
            }
            Report::Recycling { role, .. } => {
                assert!(matches!(role, Role::Slot(_)) && self.roll.is_none());
                assert!(!self.config.run_to_completion);
            }
            Report::RollDone => {
                assert!(self.roll.take().is_some());
                assert_eq!(self.draining(), 0, "done too early");
            }
            Report::RollGivenUp { .. } => {
                assert!(self.roll.take().is_some());
                self.given_up = true;
            }
            Report::Scaled { from, to } => {
                assert_eq!(self.roll, None, "scaled in a roll");
                assert!(!self.upgrading, "scaled in an upgrade");
                assert!((1..=self.config.max_workers).contains(&to));
                for slot in from..to {
                    self.images.remove(&Role::Slot(slot));
                    self.failed_at.remove(&Role::Slot(slot));
                }
            }
            Report::ScaleGivenUp { slot } => {
                assert!(!self.images.contains_key(&Role::Slot(slot)), "it was ready");
                assert_eq!((self.roll, self.end), (None, None));
            }
            Report::ScaleLimit { .. } => {}
        }
    }

    /// How many predecessors of the present roll are not gone.
    fn draining(&self) -> usize {
        let lives = |id: &&WorkerId| self.workers.contains_key(id);
        self.predecessors.iter().filter(lives).count()
    }

    fn first_cause(&mut self) {
        if self.cause == 0 {
            self.cause = if self.too_many { 4 } else { 1 };
        }
    }

    fn exit(&mut self, code: i32) {
        let expected = match self.forced {
            Some((_, signal)) => 128 + signal.as_raw(),
            None if self.cause != 0 => self.cause,
            None if self.timed_out => 3,
            None => 0,
        };
        assert_eq!(code, expected);
        if let Some((at, _)) = self.forced {
            assert!(self.now <= at + GRACE);
        } else if !self.timed_out {
            assert!(self.workers.is_empty() && !self.main_alive && !self.entering);
        }
        match self.end {
            Some(end) => assert!(self.now <= end + GRACE, "late"),
            None => assert_eq!(code, 2),
        }
        assert_eq!(self.policy.next_deadline(), None);
        self.exit = Some(code);
    }
}

fn ending() -> impl Strategy<Value = Ending> {
    select(vec![
        Ending::Clean,
        Ending::Failed,
        Ending::Failed,
        Ending::Overran,
        Ending::OverranAndFailed,
        Ending::KilledByStopSignal,
    ])
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..100_u64, 100..3000_u64, 3000..40_000_u64]
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let start = prop_oneof![
        8 => (0..500_u64).prop_map(Start::Ready),
        1 => time().prop_map(Start::Ready),
        1 => (time(), ending()).prop_map(|(after, ending)| Start::Ends(after, ending)),
        1 => Just(Start::Never),
    ];
    let life = prop_oneof![
        4 => Just(Life::Lasts),
        2 => (time(), ending()).prop_map(|(after, ending)| Life::Ends(after, ending)),
        1 => time().prop_map(Life::Hangs),
    ];
    let leaves = prop_oneof![
        6 => (0..1000_u64).prop_map(|after| Some((after, Ending::Clean))),
        3 => (time(), ending()).prop_map(Some),
        2 => Just(None),
    ];
    let dies =
        prop_oneof![6 => (0..20_u64).prop_map(Some), 1 => time().prop_map(Some), 1 => Just(None)];
    (start, life, leaves, dies).prop_map(|(start, life, leaves, dies)| Behaviour {
        start,
        life,
        leaves,
        dies,
    })
}

fn stop_signal() -> impl Strategy<Value = Signal> {
    select(vec![Signal::SIGINT, Signal::SIGTERM])
}

fn stop() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => stop_signal().prop_map(Event::StopSignal),
        1 => Just(Event::StopRequested),
        1 => Just(Event::Drain),
        1 => Just(Event::StopWithoutDelay),
    ]
}

fn outside() -> impl Strategy<Value = Outside> {
    let operator = vec![
        Event::Reload,
        Event::ScaleUp,
        Event::ScaleDown,
        Event::Tell,
        Event::Upgrade,
    ];
    prop_oneof![
        6 => select(operator).prop_map(Outside::Event),
        1 => (0..12_usize).prop_map(|workers| Outside::Event(Event::Scale(workers))),
        1 => (0..8_usize).prop_map(|slot| Outside::Event(Event::Restart(Role::Slot(slot)))),
        1 => (0..3_usize).prop_map(|extra| Outside::Event(Event::Restart(Role::Extra(extra)))),
        2 => (any::<usize>(), stop_signal())
            .prop_map(|(which, signal)| Outside::ToWorker(which, signal)),
        1 => any::<usize>().prop_map(Outside::Worn),
        1 => (1..100_000_u64).prop_map(Outside::Gap),
    ]
}

fn main_context() -> impl Strategy<Value = Main> {
    let enters = prop_oneof![8 => (0..1000_u64, Just(true)).prop_map(Some),
        1 => (time(), any::<bool>()).prop_map(Some), 1 => Just(None)];
    let leaves = prop_oneof![8 => (time(), ending()).prop_map(Some), 1 => Just(None)];
    (enters, leaves).prop_map(|(enters, leaves)| Main { enters, leaves })
}

fn config() -> impl Strategy<Value = Config> {
    let timeouts = vec![0, 1, 300, 1000, 5000, 25_000];
    (
        (
            1..4_usize,
            1..6_usize,
            vec(any::<bool>(), 0..3),
            any::<bool>(),
            any::<bool>(),
        ),
        (
            select(timeouts),
            select(vec![1000_u64, 10_000, 60_000]),
            select(vec![0, 0, 300, 5000_u64]),
        ),
        select(vec![
            OnFailure::Shutdown,
            OnFailure::Restart,
            OnFailure::Restart,
            OnFailure::Ignore,
        ]),
        (
            0..12_u32,
            select(vec![0_u64, 5000, 60_000]),
            prop::bool::weighted(0.15),
            prop_oneof![Just(1), 1..4_usize, Just(usize::MAX)],
        ),
    )
        .prop_map(
            |(
                shape,
                (shutdown, start, delay),
                on_failure,
                (max_restarts, window, to_completion, roll_overlap),
            )| {
                let (workers, more, extra_sync, has_main, can_kill) = shape;
                Config {
                    workers,
                    max_workers: workers + more,
                    extra_sync,
                    has_main,
                    can_kill,
                    shutdown_timeout: ms(shutdown),
                    drain_delay: ms(delay.min(shutdown / 2)),
                    start_timeout: ms(start),
                    on_failure,
                    max_restarts,
                    restart_window: ms(window),
                    run_to_completion: to_completion,
                    roll_overlap,
                    // For ever again, there would be no calm.
                    recycle_after: None,
                    recycle_settled: ms(1000),
                    jitter: |delay| delay,
                }
            },
        )
}

fn history() -> impl Strategy<Value = History> {
    (
        config(),
        main_context(),
        vec(behaviour(), 0..40),
        vec((time(), outside()), 0..30),
    )
        .prop_map(|(config, main, behaviours, outside)| History {
            config,
            main,
            behaviours,
            outside,
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever happens, a stop comes to its end, in time and with the right code.
    #[test]
    fn stop_always_ends(
        mut history in history(),
        stops in vec((time(), stop()), 1..4),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(history.outside.len() + 1);
        let stops = stops.into_iter()
            .map(|(after, stop)| (after, Outside::Event(stop)));
        history.outside.splice(at..at, stops);
        prop_assert!(World::run(history).exit.is_some());
    }

    /// Once the world behaves, the server is as it is meant to be, with nothing forgotten.
    #[test]
    fn calm_restores_order(mut history in history()) {
        history.config.on_failure = OnFailure::Restart;
        history.config.max_restarts = 1000;
        history.config.run_to_completion = false;
        history.main = Main { enters: Some((10, true)), leaves: None };
        let started = history.config.workers + history.config.extra_sync.len();
        // A failure at start-up ends the server.
        history.behaviours.splice(0..0, vec![TAME; started]);
        history.outside.splice(0..0, [(100, Outside::Event(Event::Tell))]);
        let world = World::run(history);
        let policy = &world.policy;
        prop_assert_eq!(world.exit, None);
        prop_assert_eq!(policy.state, State::Serving);
        prop_assert!(policy.roll.is_none() && !policy.reload && policy.target == policy.wanted);
        prop_assert_eq!(policy.slots.len(), policy.target);
        prop_assert!(policy.all_ready());
        let extras = policy.extras.len() - world.completed.len();
        prop_assert_eq!(policy.workers.len(), policy.target + extras);
        prop_assert_eq!(policy.workers.len(), world.workers.len());
    }
}
