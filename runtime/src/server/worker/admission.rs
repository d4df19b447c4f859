//! How many connections of a worker may be open at once, and when siblings are to accept in its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::server::stop::sleep_until;

/// What an accept loop needs before it accepts. All of a worker's have the same limit.
pub(super) struct Admission {
    limit: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
    fullness: Fullness,
}

/// What an accept loop may do.
pub(super) enum Admitted {
    /// Accept a connection.
    Connection,
    /// Tell whether it is full.
    Full(bool),
}

impl Admission {
    pub(super) fn new(limit: Option<Arc<Semaphore>>) -> Admission {
        Admission {
            limit,
            permit: None,
            fullness: Fullness::default(),
        }
    }

    /// Whether a connection may be accepted now.
    pub(super) fn is_open(&mut self) -> bool {
        let Some(limit) = &self.limit else {
            return true;
        };
        if self.permit.is_none() {
            self.permit = Arc::clone(limit).try_acquire_owned().ok();
        }
        self.fullness.is(self.permit.is_none(), Instant::now());
        self.permit.is_some()
    }

    /// Waits until something else may be done than now. Cancel-safe.
    pub(super) async fn changed(&mut self) -> Admitted {
        let Some(limit) = &self.limit else {
            return std::future::pending().await;
        };
        let due = self.fullness.due();
        tokio::select! {
            permit = Arc::clone(limit).acquire_owned(), if self.permit.is_none() => {
                self.permit = permit.ok();
                Admitted::Connection
            }
            () = sleep_until(due) => Admitted::Full(self.fullness.tell(Instant::now())),
        }
    }

    /// To be held for as long as the connection is open.
    pub(super) fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        self.permit.take()
    }
}

/// How long a loop that was full has nothing to wait for before its siblings stop accepting in its place, and what is
/// between two times at which it is told to be full.
const SETTLED: Duration = Duration::from_millis(100);

/// What is told of an accept loop: that it is full at once, that it is not when that lasts.
#[derive(Debug, Default)]
struct Fullness {
    full: bool,
    since: Option<Instant>,
    told: bool,
    told_at: Option<Instant>,
}

impl Fullness {
    fn is(&mut self, full: bool, now: Instant) {
        if self.full != full || self.since.is_none() {
            self.full = full;
            self.since = Some(now);
        }
    }

    /// When there is something to tell.
    fn due(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.full != self.told)?;
        Some(match self.full {
            true => self.told_at.map_or(since, |at| since.max(at + SETTLED)),
            false => since + SETTLED,
        })
    }

    fn tell(&mut self, now: Instant) -> bool {
        self.told = self.full;
        self.told_at = Some(now);
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn it_is_full_at_once_and_open_when_that_lasts() {
        let mut fullness = Fullness::default();
        let now = Instant::now();
        fullness.is(false, now);
        assert_eq!(fullness.due(), None);
        fullness.is(true, now);
        assert_eq!(fullness.due(), Some(now));
        assert!(fullness.tell(now));
        fullness.is(false, now + SETTLED / 2);
        fullness.is(true, now + SETTLED);
        assert_eq!(fullness.due(), None, "its siblings still stand in");
        fullness.is(false, now + SETTLED);
        assert_eq!(fullness.due(), Some(now + 2 * SETTLED));
    }

    proptest! {
        #[test]
        fn little_is_told_and_in_the_end_the_truth(steps in proptest::collection::vec((0..300_u64, any::<bool>()), 0..200)) {
            let mut fullness = Fullness::default();
            let (mut now, mut last, mut told) = (Instant::now(), None::<Instant>, false);
            for (after, full) in steps {
                let next = now + Duration::from_millis(after);
                if let Some(due) = fullness.due().filter(|due| *due <= next) {
                    let due = due.max(now);
                    prop_assert!(last.is_none_or(|last| due >= last + SETTLED));
                    last = Some(due);
                    told = fullness.tell(due);
                }
                now = next;
                fullness.is(full, now);
            }
            if let Some(due) = fullness.due() {
                told = fullness.tell(due);
            }
            prop_assert_eq!(told, fullness.full);
        }
    }
}
