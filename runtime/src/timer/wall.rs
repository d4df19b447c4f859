//! Wall clocks, and due times by them that need no calendar.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::schedule::{Dues, Irregular, NEVER, Nanos};
use super::shared::nanos;

/// What tells the time of day: the system, or a test.
#[derive(Clone)]
pub(super) struct WallClock(Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>);

impl WallClock {
    pub(super) const SYSTEM: WallClock = WallClock(None);

    pub(super) fn new(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> WallClock {
        WallClock(Some(Arc::new(clock)))
    }

    pub(super) fn is_systems(&self) -> bool {
        self.0.is_none()
    }

    /// Nanoseconds since 1970; 0 before.
    pub(super) fn now(&self) -> Nanos {
        let now = match &self.0 {
            None => SystemTime::now(),
            Some(clock) => clock(),
        };
        since_epoch(now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Fn() -> SystemTime"
        } else {
            "the system's"
        })
    }
}

pub(super) fn since_epoch(time: SystemTime) -> Nanos {
    time.duration_since(UNIX_EPOCH).map_or(0, nanos)
}

pub(super) fn at_epoch(at: Nanos) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(at)
}

/// A grid that several timers share.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedGrid {
    interval: Nanos,
    /// Its first due time after 1970.
    origin: Nanos,
    /// Whoever is the first to run begins the grid.
    begins_late: bool,
}

impl SharedGrid {
    /// The one that all who know its interval share.
    pub(super) fn since_1970(interval: Nanos) -> SharedGrid {
        SharedGrid {
            interval,
            origin: 0,
            begins_late: false,
        }
    }

    /// One that begins when the first of those who share it runs.
    pub(super) fn since_the_first(interval: Nanos) -> SharedGrid {
        SharedGrid {
            begins_late: true,
            ..SharedGrid::since_1970(interval)
        }
    }
}

impl Dues for SharedGrid {
    fn after(&mut self, at: Nanos) -> Nanos {
        let passed = match at.checked_sub(self.origin) {
            Some(since) => since / self.interval + 1,
            None => 0,
        };
        let due = passed.checked_mul(self.interval);
        due.and_then(|due| due.checked_add(self.origin))
            .unwrap_or(NEVER)
    }

    fn count(&mut self, after: Nanos, until: Nanos) -> u64 {
        let passed = |at: Nanos| {
            let since = at.checked_sub(self.origin);
            since.map_or(0, |since| since / self.interval + 1)
        };
        passed(until).saturating_sub(passed(after))
    }

    fn begin(&mut self, now: Nanos) -> Nanos {
        if !self.begins_late {
            return now.saturating_sub(1);
        }
        self.origin = now % self.interval;
        // A due time itself, from which others learn the grid.
        now.saturating_sub(self.interval)
    }

    fn go_on(&mut self, last: Nanos) {
        if self.begins_late {
            self.origin = last % self.interval;
        }
    }
}

/// Makes the due times of a timer when it starts.
#[derive(Clone)]
pub(super) struct MakeDues(Arc<dyn Fn(Nanos) -> Box<Irregular> + Send + Sync>);

impl MakeDues {
    #[cfg_attr(
        not(feature = "calendar"),
        allow(dead_code, reason = "only calendars go by a clock")
    )]
    pub(super) fn new<D: Dues + 'static>(make: impl Fn() -> D + Send + Sync + 'static) -> MakeDues {
        MakeDues(Arc::new(move |now| Box::new(Irregular::new(make(), now))))
    }

    /// For a clock that shows `now`.
    pub(super) fn make(&self, now: Nanos) -> Box<Irregular> {
        (self.0)(now)
    }
}

impl fmt::Debug for MakeDues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.make(0).fmt(f)
    }
}
