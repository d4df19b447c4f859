//! What is known of a timer beside its counts, for those who look into a running server.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::schedule::{NEVER, Nanos};

pub(super) struct Details {
    interval: AtomicU64,
    /// The expression and the time zone.
    calendar: Option<String>,
    /// Of the tick that was started last.
    lateness: AtomicU64,
    /// Of the tick that ended last.
    length: AtomicU64,
}

/// As they are at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// None of a timer that goes by a calendar.
    pub(crate) interval: Option<Duration>,
    pub(crate) calendar: Option<String>,
    pub(crate) lateness: Option<Duration>,
    pub(crate) length: Option<Duration>,
}

impl Details {
    pub(super) fn new(interval: Nanos, calendar: Option<String>) -> Details {
        Details {
            interval: AtomicU64::new(interval),
            calendar,
            lateness: AtomicU64::new(NEVER),
            length: AtomicU64::new(NEVER),
        }
    }

    pub(super) fn set_interval(&self, interval: Nanos) {
        self.interval.store(interval, Relaxed);
    }

    pub(super) fn begun(&self, lateness: Nanos) {
        self.lateness.store(lateness, Relaxed);
    }

    pub(super) fn ended(&self, length: Nanos) {
        self.length.store(length, Relaxed);
    }

    pub(super) fn show(&self) -> Shown {
        let known = |nanos: &AtomicU64| match nanos.load(Relaxed) {
            NEVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        };
        Shown {
            interval: match self.calendar {
                Some(_) => None,
                None => known(&self.interval),
            },
            calendar: self.calendar.clone(),
            lateness: known(&self.lateness),
            length: known(&self.length),
        }
    }
}
