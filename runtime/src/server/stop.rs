//! Why, and until when, a worker is asked to stop.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A Unix signal, displayed by its name: `SIGTERM`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

/// Name and number of the signals that a program handles or is ended by.
const NAMES: [(&str, i32); 25] = {
    use rustix::process::Signal as S;
    [
        ("SIGHUP", S::HUP.as_raw()),
        ("SIGINT", S::INT.as_raw()),
        ("SIGQUIT", S::QUIT.as_raw()),
        ("SIGUSR1", S::USR1.as_raw()),
        ("SIGUSR2", S::USR2.as_raw()),
        ("SIGPIPE", S::PIPE.as_raw()),
        ("SIGALRM", S::ALARM.as_raw()),
        ("SIGTERM", S::TERM.as_raw()),
        ("SIGCHLD", S::CHILD.as_raw()),
        ("SIGTTIN", S::TTIN.as_raw()),
        ("SIGTTOU", S::TTOU.as_raw()),
        ("SIGWINCH", S::WINCH.as_raw()),
        ("SIGIO", S::IO.as_raw()),
        ("SIGKILL", S::KILL.as_raw()),
        ("SIGSTOP", S::STOP.as_raw()),
        ("SIGTSTP", S::TSTP.as_raw()),
        ("SIGABRT", S::ABORT.as_raw()),
        ("SIGSEGV", S::SEGV.as_raw()),
        ("SIGBUS", S::BUS.as_raw()),
        ("SIGFPE", S::FPE.as_raw()),
        ("SIGILL", S::ILL.as_raw()),
        ("SIGTRAP", S::TRAP.as_raw()),
        ("SIGSYS", S::SYS.as_raw()),
        ("SIGXCPU", S::XCPU.as_raw()),
        ("SIGXFSZ", S::XFSZ.as_raw()),
    ]
};

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $raw:ident,)*) => {
        impl Signal {
            $($(#[$doc])* pub const $name: Signal = Signal(rustix::process::Signal::$raw.as_raw());)*
        }
    };
}

signals! {
    /// Hang-up: by default a rolling restart.
    SIGHUP = HUP,
    /// Interrupt: Ctrl-C.
    SIGINT = INT,
    /// Quit: Ctrl-\.
    SIGQUIT = QUIT,
    /// User-defined 1: told to every worker.
    SIGUSR1 = USR1,
    /// User-defined 2.
    SIGUSR2 = USR2,
    /// Termination: what service managers send.
    SIGTERM = TERM,
    /// Terminal input from the background: here, one worker more.
    SIGTTIN = TTIN,
    /// Terminal output from the background: here, one worker fewer.
    SIGTTOU = TTOU,
    /// Alarm clock.
    SIGALRM = ALARM,
}

impl Signal {
    /// The signal's number on this platform.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// The signal with this number, whatever it is.
    pub const fn from_raw(raw: i32) -> Signal {
        Signal(raw)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, raw)| *raw == self.0) {
            Some((name, _)) => f.pad(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What made a worker, or the whole server, stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// A stop signal; the first one, if there were several.
    Signal(Signal),
    /// A worker failed and the server goes down with it.
    Failure,
    /// A successor has taken this worker's place in a rolling restart.
    Restart,
    /// The server runs on with fewer workers.
    ScaleDown,
    /// The program that [started](super::Server::start) the server has it stopped.
    Requested,
    /// All workers have come to their end.
    Completed,
    /// The supervisor of this process worker is gone.
    SupervisorGone,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Signal(signal) => fmt::Display::fmt(signal, f),
            StopReason::Failure => f.pad("a worker failed"),
            StopReason::Restart => f.pad("rolling restart"),
            StopReason::ScaleDown => f.pad("scaled down"),
            StopReason::Requested => f.pad("stop requested"),
            StopReason::Completed => f.pad("all workers have ended"),
            StopReason::SupervisorGone => f.pad("the supervisor is gone"),
        }
    }
}

/// A worker is told a deadline this much before its own end, but at most a tenth of its time, so that
/// what follows a drain that lasted to the deadline still runs.
const RESERVE: Duration = Duration::from_millis(500);

/// The time that is `time` after `start`. One that is out of the clock's range is far away.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    start.checked_add(time.min(FAR)).unwrap_or(start)
}

/// For ever, if there is no deadline.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What a worker is told of the time that it has until it is ended.
pub(crate) fn without_reserve(time: Duration) -> Duration {
    time - (time / 10).min(RESERVE)
}

/// A request to stop: what a `#[server]` worker's `yield_().await` gives.
///
/// Displays as its reason, `SIGTERM` for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    reason: StopReason,
    deadline: Instant,
}

impl Stop {
    pub(crate) fn new(reason: StopReason, deadline: Instant) -> Stop {
        Stop { reason, deadline }
    }

    /// The first stop signal that was seen, when it was a signal.
    pub fn signal(&self) -> Option<Signal> {
        match self.reason {
            StopReason::Signal(signal) => Some(signal),
            _ => None,
        }
    }

    /// What made the worker stop.
    pub fn reason(&self) -> StopReason {
        self.reason
    }

    /// Until when to drain: a little before the worker is ended, so that what follows still runs. Fits
    /// `tokio::time::timeout_at`.
    ///
    /// It is the [`shutdown_timeout`](super::Server::shutdown_timeout) from the request, less the shares of what
    /// comes after: a tenth, at most 500 ms, for the rest of the worker; when the whole server stops, up to 1 s
    /// each for its extras and its main context.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_time_is_far_away() {
        let now = Instant::now();
        assert_eq!(
            after(now, Duration::from_secs(3)),
            now + Duration::from_secs(3)
        );
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(1_000_000));
        assert!(without_reserve(Duration::MAX) < Duration::MAX);
    }
}
