//! A policy and its clock, for the tests of its parts.

use std::time::Duration;

use super::event::{Action as A, Event as E, Report as R, *};
use super::state::{Policy, State};
use crate::server::OnFailure;
use crate::server::line::Role;
use crate::server::stop::{Signal, StopReason};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const TERM: Signal = Signal::SIGTERM;
pub(super) const INT: Signal = Signal::SIGINT;
pub(super) const S0: Role = Role::Slot(0);
pub(super) const S1: Role = Role::Slot(1);
pub(super) const S2: Role = Role::Slot(2);
pub(super) const X0: Role = Role::Extra(0);
pub(super) const X1: Role = Role::Extra(1);

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn id(number: u64) -> WorkerId {
    WorkerId(number)
}

pub(super) fn spawn(number: u64, role: Role, image: u64) -> Action {
    A::Spawn {
        id: id(number),
        role,
        image: Image(image),
    }
}

pub(super) fn config() -> Config {
    Config {
        workers: 2,
        max_workers: 8,
        extra_sync: Vec::new(),
        has_main: false,
        can_kill: true,
        shutdown_timeout: 25 * SECOND,
        drain_delay: Duration::ZERO,
        start_timeout: 60 * SECOND,
        on_failure: OnFailure::Shutdown,
        max_restarts: 10,
        restart_window: 60 * SECOND,
        run_to_completion: false,
        roll_overlap: usize::MAX,
        recycle_after: None,
        recycle_settled: 60 * SECOND,
        jitter: |delay| delay,
    }
}

/// A policy and its clock. Worker ids count from 0 in the order of the spawns: extras first.
pub(super) struct Server {
    pub(super) policy: Policy,
    pub(super) now: Duration,
}

impl Server {
    pub(super) fn new(config: Config) -> (Server, Vec<Action>) {
        let mut policy = Policy::new(config);
        let now = 1000 * SECOND;
        let actions = policy.start(now);
        (Server { policy, now }, actions)
    }

    /// With everything ready.
    pub(super) fn serving(config: Config) -> Server {
        let workers = (config.workers + config.extra_sync.len()) as u64;
        let (mut server, _) = Server::new(config);
        if server.policy.state == State::Entering {
            server.on(E::MainEntered);
        }
        for number in 0..workers {
            server.ready(number);
        }
        assert_eq!(server.policy.state, State::Serving);
        server
    }

    pub(super) fn on(&mut self, event: Event) -> Vec<Action> {
        self.policy.on(self.now, event)
    }

    pub(super) fn ready(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ready(id(number)))
    }

    pub(super) fn failed(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ended(id(number), Ending::Failed))
    }

    pub(super) fn clean(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ended(id(number), Ending::Clean))
    }

    pub(super) fn killed_by_stop_signal(&mut self, number: u64) -> Vec<Action> {
        self.on(E::Ended(id(number), Ending::KilledByStopSignal))
    }

    /// Lets time pass, acting on every deadline when it is due.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(deadline) = self.policy.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            actions.extend(self.policy.tick(self.now));
        }
        self.now = end;
        assert_eq!(self.policy.tick(end), [], "before a deadline");
        actions
    }

    pub(super) fn stop(&self, number: u64, reason: StopReason, after: Duration) -> Action {
        A::Stop {
            id: id(number),
            reason,
            by: self.now + after,
        }
    }

    pub(super) fn stopping(&self, reason: StopReason) -> Action {
        A::Report(R::Stopping {
            reason,
            by: self.now + 25 * SECOND,
        })
    }
}

/// What the driver does, without what it says.
pub(super) fn deeds(actions: Vec<Action>) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, A::Report(_)))
        .collect()
}
