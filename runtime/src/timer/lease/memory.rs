//! Leases in the memory of one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::contract::Lease;
use super::error::LeaseError;
use super::slot::{Slot, Stale};
use super::types::{Held, Owner, Progress, Token};

/// A [`Lease`] in the memory of one process, for tests, and among the runtimes of one process. A clone is the same
/// store.
///
/// It goes by tokio's clock, so that it expires under `tokio::time::pause` when that clock says so.
/// [`changed`](Lease::changed) is ready as soon as the lease is released or over.
#[derive(Clone, Debug)]
pub struct MemoryLease(Arc<Store>);

#[derive(Debug)]
struct Store {
    start: Instant,
    slots: Mutex<HashMap<String, Slot>>,
    released: Notify,
}

impl MemoryLease {
    /// A store without any lease.
    pub fn new() -> MemoryLease {
        MemoryLease(Arc::new(Store {
            start: Instant::now(),
            slots: Mutex::default(),
            released: Notify::new(),
        }))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        // Nothing in the lock panics half-way.
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryLease {
    fn default() -> MemoryLease {
        MemoryLease::new()
    }
}

impl Lease for MemoryLease {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        let now = self.0.start.elapsed();
        let mut slots = self.slots();
        Ok(slots
            .entry(name.to_owned())
            .or_default()
            .hold(now, owner, ttl))
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        let mut slots = self.slots();
        let recorded = match slots.get_mut(name) {
            Some(slot) => slot.record(token, due, at),
            None => Err(Stale),
        };
        recorded.map_err(|Stale| LeaseError::stale(name, token))
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        let mut slots = self.slots();
        if slots.get_mut(name).is_some_and(|slot| slot.release(token)) {
            self.0.released.notify_waiters();
        }
        Ok(())
    }

    async fn changed(&self, name: &str, _ttl: Duration) {
        loop {
            // Made before the look at the slot, it hears of a release after that.
            let released = self.0.released.notified();
            let until = self.slots().get(name).and_then(Slot::held_until);
            let until = match until {
                Some(until) if self.0.start.elapsed() < until => until,
                _ => return,
            };
            match self.0.start.checked_add(until) {
                // Whichever it is, the slot tells.
                Some(until) => drop(timeout_at(until, released).await),
                None => released.await,
            }
        }
    }
}
