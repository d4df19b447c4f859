//! When connections that do nothing are closed.

use std::time::Duration;

use tokio::time::Instant;

use super::wire::Phase;
use crate::server::stop::after;
use crate::server::{Stop, StopReason};

/// What is left of a drain, at least, when idle connections are closed, so that none of them is cut at the deadline.
const MARGIN: Duration = Duration::from_secs(1);
/// How long connections may be idle when the server goes away. There is nobody else who would take their clients.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection may do nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a request's head, once it has begun.
    pub(super) head: Duration,
    /// Idle, after the worker's stop; none is as long as makes sense.
    pub(super) idle: Option<Duration>,
}

impl Limits {
    /// Until when connections may be idle of a worker that has just been asked to stop.
    pub(super) fn idle_until(&self, stop: &Stop, now: Instant) -> Instant {
        let left = stop.deadline().saturating_duration_since(now);
        let latest = left - MARGIN.min(left / 2);
        let idle = match (self.idle, stop.reason()) {
            (Some(idle), _) => idle,
            (None, StopReason::Restart | StopReason::ScaleDown) => latest,
            (None, _) => FAREWELL,
        };
        after(now, idle.min(latest))
    }
}

/// Until when a connection may go on with what it does. Told what it does whenever it has done something.
#[derive(Debug, Default)]
pub(super) struct Patience {
    idle_until: Option<Instant>,
    /// When the head that is being read has begun, and how many requests there had been before.
    head: Option<(usize, Instant)>,
}

impl Patience {
    /// The worker has been asked to stop.
    pub(super) fn stopping(&mut self, idle_until: Instant) {
        self.idle_until = Some(idle_until);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.idle_until.is_some()
    }

    /// `requests` is how many there have been.
    pub(super) fn until(
        &mut self,
        phase: Phase,
        requests: usize,
        now: Instant,
        limits: &Limits,
    ) -> Option<Instant> {
        if phase != Phase::Head {
            self.head = None;
        }
        match phase {
            Phase::Busy => None,
            Phase::Idle => self.idle_until,
            Phase::Head => {
                let begun = match self.head {
                    Some((before, begun)) if before == requests => begun,
                    _ => now,
                };
                self.head = Some((requests, begun));
                Some(after(begun, limits.head))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    use crate::server::Signal;

    const LIMITS: Limits = Limits {
        head: Duration::from_secs(30),
        idle: None,
    };

    fn idle(limits: Limits, reason: StopReason, left: Duration) -> Duration {
        let now = Instant::now();
        limits.idle_until(&Stop::new(reason, now + left), now) - now
    }

    #[test]
    fn idle_connections_stay_for_a_roll_and_a_second_when_the_server_stops() {
        let term = StopReason::Signal(Signal::SIGTERM);
        let secs = Duration::from_secs;
        assert_eq!(idle(LIMITS, StopReason::Restart, secs(24)), secs(23));
        assert_eq!(idle(LIMITS, StopReason::ScaleDown, secs(24)), secs(23));
        assert_eq!(idle(LIMITS, term, secs(24)), secs(1));
        assert_eq!(idle(LIMITS, StopReason::Failure, secs(24)), secs(1));
        let given = Limits {
            idle: Some(secs(5)),
            ..LIMITS
        };
        for reason in [StopReason::Restart, term] {
            assert_eq!(idle(given, reason, secs(24)), secs(5));
            assert_eq!(idle(given, reason, secs(4)), secs(3));
        }
    }

    #[test]
    fn a_head_has_its_time_from_its_first_byte() {
        let mut patience = Patience::default();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(patience.until(Phase::Idle, 0, start, &LIMITS), None);
        let due = start + LIMITS.head;
        assert_eq!(patience.until(Phase::Head, 0, start, &LIMITS), Some(due));
        let later = start + second;
        assert_eq!(patience.until(Phase::Head, 0, later, &LIMITS), Some(due));
        // One was read meanwhile, and this is the next.
        let due = later + LIMITS.head;
        assert_eq!(patience.until(Phase::Head, 1, later, &LIMITS), Some(due));
        assert_eq!(patience.until(Phase::Busy, 2, later, &LIMITS), None);
        assert_eq!(patience.until(Phase::Idle, 2, later, &LIMITS), None);
        patience.stopping(later + second);
        assert_eq!(
            patience.until(Phase::Idle, 2, later, &LIMITS),
            Some(later + second)
        );
        assert_eq!(patience.until(Phase::Busy, 2, later, &LIMITS), None);
    }

    proptest! {
        #[test]
        fn idle_connections_are_closed_before_the_deadline(
            left in 0..100_000_u64,
            idle_for in proptest::option::of(0..100_000_u64),
            is_roll: bool,
        ) {
            let left = Duration::from_millis(left);
            let reason = match is_roll {
                true => StopReason::Restart,
                false => StopReason::Requested,
            };
            let limits = Limits { idle: idle_for.map(Duration::from_millis), ..LIMITS };
            let closed = idle(limits, reason, left);
            prop_assert!(closed < left || left.is_zero());
            prop_assert!(left - closed >= MARGIN.min(left / 2));
        }
    }
}
