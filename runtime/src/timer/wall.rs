//! Wall clocks, and due times by them that need no calendar.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::schedule::{Dues, NEVER, Nanos};
use super::shared::nanos;

/// What tells the time of day: the system, or a test.
#[derive(Clone)]
pub(super) struct WallClock(Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>);

impl WallClock {
    pub(super) const SYSTEM: WallClock = WallClock(None);

    pub(super) fn new(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> WallClock {
        WallClock(Some(Arc::new(clock)))
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

/// A grid that all who know its interval share: it begins in 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedGrid(pub(super) Nanos);

impl Dues for SharedGrid {
    fn after(&mut self, at: Nanos) -> Nanos {
        (at / self.0 + 1).checked_mul(self.0).unwrap_or(NEVER)
    }
}

/// Makes the due times of a timer when it starts.
#[derive(Clone)]
pub(super) struct MakeDues(Arc<dyn Fn() -> Box<dyn Dues> + Send + Sync>);

impl MakeDues {
    #[cfg_attr(
        not(feature = "calendar"),
        allow(dead_code, reason = "only calendars go by a clock")
    )]
    pub(super) fn new<D: Dues + 'static>(make: impl Fn() -> D + Send + Sync + 'static) -> MakeDues {
        MakeDues(Arc::new(move || Box::new(make())))
    }

    pub(super) fn make(&self) -> Box<dyn Dues> {
        (self.0)()
    }
}

impl fmt::Debug for MakeDues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.make().fmt(f)
    }
}
