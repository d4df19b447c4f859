//! The words of the policy: what happened, what is to be done, and what is only logged.

use std::fmt;
use std::time::Duration;

use crate::server::OnFailure;
use crate::server::line::Role;
use crate::server::stop::{Signal, StopReason};

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
    /// Whether a worker can be ended whose event loop is blocked: a process, not a thread.
    pub(crate) can_kill: bool,
    pub(crate) shutdown_timeout: Duration,
    /// How much of it a server that was ready serves on at first.
    pub(crate) drain_delay: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) on_failure: OnFailure,
    pub(crate) max_restarts: u32,
    pub(crate) restart_window: Duration,
    pub(crate) run_to_completion: bool,
    /// How many predecessors may drain at once in a roll, at least 1.
    pub(crate) roll_overlap: usize,
    /// For how long a worker is ready until it is recycled.
    pub(crate) recycle_after: Option<Duration>,
    /// No worker is recycled before it was ready for so long.
    pub(crate) recycle_settled: Duration,
    /// Spreads a backoff, so that slots that failed together don't start together. The identity in
    /// tests.
    pub(crate) jitter: fn(Duration) -> Duration,
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
    pub(super) fn has_failed(self) -> bool {
        matches!(self, Ending::Failed | Ending::OverranAndFailed)
    }

    pub(super) fn has_overrun(self) -> bool {
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
    /// A worker has reached a limit that it is recycled for.
    Worn(WorkerId, Worn),
    /// A process worker caught this stop signal and reports it.
    #[cfg_attr(not(any(feature = "process", test)), expect(dead_code))]
    WorkerSignalled(WorkerId, Signal),
    /// A stop signal to the supervisor; SIGHUP too, once the controlling terminal is gone.
    StopSignal(Signal),
    /// The program has the server stopped. Asked for again, nothing is forced.
    StopRequested,
    /// The operator has the server stopped, as a first stop signal does. Asked for again, nothing is forced, but a stop
    /// signal after it is a second one.
    #[cfg_attr(not(any(feature = "monitor", test)), expect(dead_code))]
    Drain,
    /// The operator has the server stopped without its delay. Nothing is forced.
    #[cfg_attr(not(any(feature = "monitor", test)), expect(dead_code))]
    StopWithoutDelay,
    /// SIGHUP.
    Reload,
    /// A worker is to be replaced by a successor of the same executable, or an extra to be started again.
    #[cfg_attr(not(any(feature = "monitor", test)), expect(dead_code))]
    Restart(Role),
    /// SIGTTIN.
    ScaleUp,
    /// SIGTTOU.
    ScaleDown,
    /// As many workers as this are wanted.
    Scale(usize),
    /// SIGUSR1.
    Tell,
    /// SIGUSR2: the supervisor is to be replaced.
    Upgrade,
    /// After [`Action::Upgrade`]: the successor is gone, and this supervisor goes on.
    #[cfg_attr(not(any(feature = "process", test)), expect(dead_code))]
    UpgradeOver,
    /// After [`Action::Upgrade`]: the successor serves.
    #[cfg_attr(not(any(feature = "process", test)), expect(dead_code))]
    Succeeded,
    /// After [`Event::Succeeded`]: the successor has died, while this supervisor has yet to end.
    #[cfg_attr(not(any(feature = "process", test)), expect(dead_code))]
    SuccessorDied,
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
    /// Tell a worker that the server is going, and serves on until its delay is over.
    TellGoing(WorkerId),
    /// Tell a worker of a SIGUSR1.
    Tell(WorkerId),
    /// Leave the main context.
    LeaveMain {
        /// Told to its teardown.
        reason: StopReason,
        /// When it is given up.
        by: Duration,
    },
    /// Start a successor of the supervisor. It comes to [`Event::UpgradeOver`] or [`Event::Succeeded`].
    Upgrade,
    /// Have the successor stop, which is not to take over any more.
    AbandonUpgrade,
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
    /// The server is going: its stop begins after this delay.
    Going {
        /// What made it go.
        reason: StopReason,
        /// How long it serves on.
        delay: Duration,
    },
    /// That was asked for while the server is going, and isn't done.
    Refused(Refused),
    /// The server stops.
    Stopping {
        /// What made it stop.
        reason: StopReason,
        /// When the budget ends.
        by: Duration,
    },
    /// The supervisor is being replaced already.
    UpgradeUnderWay,
    /// The successor has died, and nobody is left to serve: everything is killed.
    SuccessorDied,
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
    /// That worker may have read newer settings than its siblings: a SIGHUP was given up before.
    SettingsMayDiffer(Role),
    /// A worker failed; its role stays vacant.
    Vacant(Role),
    /// An extra has come to its own end.
    ExtraEnded(Role),
    /// A rolling restart of this many slots begins.
    RollStarted {
        /// How many.
        slots: usize,
        /// The one role that is restarted, or none for all of them.
        only: Option<Role>,
        /// The executable that they get, with process workers.
        image: Image,
    },
    /// A worker is recycled.
    Recycling {
        /// Its role.
        role: Role,
        /// What for.
        worn: Worn,
    },
    /// The rolling restart is complete.
    RollDone,
    /// That was to be restarted, and is not to run any more.
    NotRestarted(Role),
    /// A successor failed to start, so the rolling restart ends here.
    RollGivenUp {
        /// Whose successor it is.
        role: Role,
        /// Whether workers now run different images.
        mixed: bool,
    },
    /// The number of workers changed.
    Scaled {
        /// How many there were.
        from: usize,
        /// How many there are to be.
        to: usize,
    },
    /// A worker that was to be added failed to start, so there are as many as before it.
    ScaleGivenUp {
        /// Its slot, and so how many there are to be.
        slot: usize,
    },
    /// No more, or no fewer, workers than there are.
    ScaleLimit {
        /// How many there are to be.
        workers: usize,
    },
}

/// What a server that is going doesn't begin any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Reload,
    Restart,
    Scale,
    Upgrade,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Reload => "rolling restart",
            Refused::Restart => "restart of a worker",
            Refused::Scale => "change of the number of workers",
            Refused::Upgrade => "upgrade",
        })
    }
}

/// What a worker is recycled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worn {
    /// It has been ready for so long.
    Time(Duration),
    /// It has accepted so many connections.
    Connections(u64),
    /// So many bytes of memory are resident.
    Memory(u64),
}

impl fmt::Display for Worn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Worn::Time(time) => write!(f, "it has been ready for {time:.0?}"),
            Worn::Connections(count) => write!(f, "it has accepted {count} connections"),
            Worn::Memory(bytes) => write!(f, "{} MiB of it are resident", bytes >> 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_and_what_is_worn_is_told_in_words() {
        let refused = [
            (Refused::Reload, "rolling restart"),
            (Refused::Restart, "restart of a worker"),
            (Refused::Scale, "change of the number of workers"),
            (Refused::Upgrade, "upgrade"),
        ];
        for (refused, told) in refused {
            assert_eq!(refused.to_string(), told);
        }
        let hour = Duration::from_secs(3600);
        let worn = [
            (Worn::Time(hour), "it has been ready for 3600s"),
            (Worn::Connections(9), "it has accepted 9 connections"),
            (Worn::Memory(3 << 20), "3 MiB of it are resident"),
        ];
        for (worn, told) in worn {
            assert_eq!(worn.to_string(), told);
        }
    }
}
