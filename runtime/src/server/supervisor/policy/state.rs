//! What the policy remembers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::event::{Action, Config, Image, WorkerId, Worn};
use crate::backoff::Backoff;
use crate::server::line::Role;
use crate::server::stop::{Signal, StopReason};

/// What a killed worker gets to be gone, and what extras and the main context get of the budget at
/// its end.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// The supervisor's state machine.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(super) config: Config,
    pub(super) state: State,
    /// Whether the main context has been entered and not yet been left.
    pub(super) main: bool,
    /// By index. Those from `target` on are on their way out.
    pub(super) slots: Vec<Place>,
    /// Whether the workers have been started: they are once all extras are ready.
    pub(super) started: bool,
    pub(super) extras: Vec<Place>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) next_id: u64,
    /// The image of new slots: of the last roll that was completed.
    pub(super) image: Image,
    pub(super) last_image: Image,
    pub(super) roll: Option<Roll>,
    /// A SIGHUP waits for its roll.
    pub(super) reload: bool,
    /// These wait for a roll of their own.
    pub(super) restarts: BTreeSet<Role>,
    /// How many slots there are to be now, and how many once the present roll is over.
    pub(super) target: usize,
    pub(super) wanted: usize,
    /// The slot of a scale-up whose first worker has yet to be ready. Those above it follow one by one.
    pub(super) adding: Option<usize>,
    /// The last SIGHUP's roll was given up.
    pub(super) given_up: bool,
    /// The first failure, for the exit code, when the others run on to their completion.
    pub(super) cause: i32,
    /// When the last stop signal came that counted.
    pub(super) counted_signal: Option<Duration>,
    /// It has been asked to stop, and serves on until its delay is over.
    pub(super) going: Option<Going>,
    pub(super) upgrade: Upgrade,
    /// Whether a worker has run to completion.
    pub(super) completed: bool,
    pub(super) stuck: usize,
    pub(super) actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    New,
    Entering,
    /// Until all workers and extras are ready for the first time.
    Starting,
    Serving,
    Stopping(Stopping),
    /// Everything is killed; waits for what can be reaped by then.
    Forced {
        /// None where a successor has died.
        signal: Option<Signal>,
        by: Duration,
    },
    Done,
}

/// The exit code of what is forced.
pub(super) fn forced_code(signal: Option<Signal>) -> i32 {
    signal.map_or(1, |signal| 128 + signal.as_raw())
}

/// The replacement of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    None,
    /// Asked for; waits for what goes on to be done.
    Waiting,
    /// Until then no worker is rolled or recycled, and their number stays.
    Running,
    /// The successor serves.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Going {
    pub(super) reason: StopReason,
    /// When its stop begins.
    pub(super) until: Duration,
    /// The end of the budget, of which the delay is a part.
    pub(super) end: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopping {
    pub(super) reason: StopReason,
    /// The end of the budget.
    pub(super) end: Duration,
    /// The first cause.
    pub(super) code: i32,
    pub(super) timed_out: bool,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Workers,
    Extras,
    Main { by: Duration },
}

impl Stopping {
    /// A failure that was told keeps its code: 3 is for a timeout alone.
    pub(super) fn exit_code(&self) -> i32 {
        match self.code {
            0 if self.timed_out => 3,
            code => code,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) role: Role,
    pub(super) image: Image,
    pub(super) phase: Phase,
    pub(super) ready_at: Option<Duration>,
    /// The stop signal that it reported: from then on its end is no failure.
    pub(super) asked: Option<Signal>,
    /// When its time is over.
    pub(super) recycle_at: Option<Duration>,
    /// The limit that it has reached.
    pub(super) worn: Option<Worn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) struct Place {
    /// The image that it was last ready with.
    pub(super) image: Image,
    pub(super) current: Option<WorkerId>,
    /// A roll's successor, until it is ready.
    pub(super) next: Option<WorkerId>,
    /// Those that have, or will have, nothing to follow.
    pub(super) leaving: Vec<WorkerId>,
    /// When a vacant place is filled again.
    pub(super) retry_at: Option<Duration>,
    /// Isn't filled again: ran to completion, or failed with `on_failure = ignore`.
    pub(super) out: bool,
    pub(super) completed: bool,
    /// Whether `on_failure` counts: before, a failure is one of the start.
    pub(super) been_ready: bool,
    /// A worker has been ready here, or gone before it was, so that there may be sockets which nobody accepts from.
    pub(super) served: bool,
    /// Since when none has been ready here, once it failed.
    pub(super) vacant_since: Option<Duration>,
    pub(super) backoff: Backoff,
    /// When its worker may be recycled again, and how often that was given up in a row.
    pub(super) recycle_not_before: Option<Duration>,
    pub(super) recycle_streak: u32,
}

impl Place {
    pub(super) fn new(image: Image) -> Place {
        Place {
            image,
            current: None,
            next: None,
            leaving: Vec::new(),
            retry_at: None,
            out: false,
            completed: false,
            been_ready: false,
            served: false,
            vacant_since: None,
            backoff: Backoff::default(),
            recycle_not_before: None,
            recycle_streak: 0,
        }
    }

    pub(super) fn live(&self) -> usize {
        usize::from(self.current.is_some()) + usize::from(self.next.is_some()) + self.leaving.len()
    }

    /// When to spawn, unless two of its workers have yet to leave.
    pub(super) fn spawn_at(&self) -> Option<Duration> {
        self.retry_at
            .filter(|_| self.current.is_none() && self.live() < 2)
    }
}

#[derive(Debug)]
pub(super) struct Roll {
    pub(super) image: Image,
    /// The one that is restarted alone; none for a SIGHUP's.
    pub(super) only: Option<Role>,
    /// Of a worker that is recycled.
    pub(super) recycles: bool,
    /// Workers, then extras.
    pub(super) remaining: VecDeque<Role>,
    pub(super) stage: Stage,
    /// The predecessors that have yet to go.
    pub(super) draining: Vec<WorkerId>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// On to the next one, as soon as there may be one.
    Next,
    /// Until this extra is gone: it has a port of its own, perhaps, so that two of it would be one too many.
    Leaving(usize),
    /// Until this successor is ready.
    Starting(WorkerId),
}

impl Policy {
    pub(crate) fn new(config: Config) -> Policy {
        let workers = config.workers;
        Policy {
            state: State::New,
            main: false,
            started: false,
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
            restarts: BTreeSet::new(),
            target: workers,
            wanted: workers,
            adding: None,
            given_up: false,
            cause: 0,
            counted_signal: None,
            going: None,
            upgrade: Upgrade::None,
            completed: false,
            stuck: 0,
            actions: Vec::new(),
            config,
        }
    }

    /// Whether a worker that runs, or one still to be spawned, is of this image.
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
            _ => self.going.map(|going| going.end.saturating_add(GRACE)),
        }
    }

    /// The exit code if the server had to be ended now, its time over.
    pub(crate) fn exit_code(&self) -> i32 {
        match self.state {
            State::Forced { signal, .. } => forced_code(signal),
            State::Stopping(stopping) if stopping.code != 0 => stopping.code,
            _ => 3,
        }
    }

    /// How many workers there are to be.
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Starting | State::Serving)
    }

    pub(super) fn is_before_stop(&self) -> bool {
        self.is_running() || self.state == State::Entering
    }

    pub(super) fn is_ready(&self, id: Option<WorkerId>) -> bool {
        let worker = id.and_then(|id| self.workers.get(&id));
        worker.is_some_and(|worker| worker.phase == Phase::Ready)
    }

    pub(super) fn all_ready(&self) -> bool {
        self.started
            && self.slots[..self.target]
                .iter()
                .all(|slot| self.is_settled(slot))
            && self.extras_ready()
    }

    pub(super) fn extras_ready(&self) -> bool {
        self.extras.iter().all(|extra| self.is_settled(extra))
    }

    fn is_settled(&self, place: &Place) -> bool {
        place.out || self.is_ready(place.current)
    }

    pub(super) fn place(&mut self, role: Role) -> &mut Place {
        match role {
            Role::Slot(slot) => &mut self.slots[slot],
            Role::Extra(extra) => &mut self.extras[extra],
        }
    }

    pub(super) fn place_ref(&self, role: Role) -> &Place {
        match role {
            Role::Slot(slot) => &self.slots[slot],
            Role::Extra(extra) => &self.extras[extra],
        }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.slots.iter().chain(&self.extras)
    }

    pub(super) fn ids_of(&self, of: impl Fn(Role) -> bool) -> Vec<WorkerId> {
        self.workers
            .iter()
            .filter(|(_, worker)| of(worker.role))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn set_phase(&mut self, id: WorkerId, phase: Phase) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.phase = phase;
        }
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}
