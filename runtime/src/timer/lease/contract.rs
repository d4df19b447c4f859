//! The contract between a timer and the store of its lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::error::LeaseError;
use super::types::{Held, Owner, Progress, Token};

/// A store of leases: of those who ask for a name, one holds it at a time.
///
/// A lease that isn't renewed is over when its ttl is, by the store's clock. Every holder gets a token that is greater
/// than all before it under that name, also when it is the last holder again.
///
/// All four are called from a timer's own task, which drops them when it has waited long enough or is stopped. What a
/// dropped call asked for may have been done or not: a lease that was taken thus is over after its ttl, or is found
/// held when its owner asks again.
///
/// Modelled on the locks of Backend.AI's `GlobalTimer`, on ShedLock and on the leader of Oban.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aioxide::lease::LeaseError> {
/// use std::time::{Duration, SystemTime};
/// use aioxide::lease::{Lease, MemoryLease, Owner, Progress};
///
/// let lease = MemoryLease::new();
/// let (first, second) = (Owner::unique(), Owner::unique());
/// let ttl = Duration::from_secs(15);
///
/// let held = lease.hold("report", &first, ttl).await?.expect("nobody else holds it");
/// assert!(lease.hold("report", &second, ttl).await?.is_none());
///
/// let due = SystemTime::now();
/// lease.record("report", held.token, due, Progress::Done).await?;
/// lease.release("report", held.token).await?;
///
/// let next = lease.hold("report", &second, ttl).await?.expect("it was released");
/// assert!(next.token > held.token);
/// assert_eq!(next.last, Some((due, Progress::Done)));
/// assert!(lease.record("report", held.token, due, Progress::Done).await.is_err());
/// # Ok(()) }
/// ```
pub trait Lease: Send + Sync + 'static {
    /// Takes the lease, or renews it when `owner` holds it; `None` while another holds it.
    ///
    /// # Errors
    ///
    /// If the store can't be reached or fails.
    fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> impl Future<Output = Result<Option<Held>, LeaseError>> + Send;

    /// Writes how far the work is, if `token` is the newest: whether its ttl is over doesn't matter while nobody has
    /// taken the lease since.
    ///
    /// What is written only moves on: a due time earlier than the one there, or [`Started`](Progress::Started) where
    /// the same is [`Done`](Progress::Done), changes nothing and is no error.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Stale`] if `token` isn't the newest; another if the store can't be reached or fails.
    fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send;

    /// Gives the lease up, so that another can take it at once. Does nothing if `token` doesn't hold it any more.
    ///
    /// # Errors
    ///
    /// If the store can't be reached or fails; the lease is then over when its ttl is.
    fn release(
        &self,
        name: &str,
        token: Token,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send;

    /// Ready when it may be worth asking again, by one whom [`hold`](Lease::hold) has refused. A lease that is free when
    /// this is called is worth it at once.
    ///
    /// By default after a third of the ttl.
    fn changed(&self, name: &str, ttl: Duration) -> impl Future<Output = ()> + Send {
        let _ = name;
        tokio::time::sleep(ttl / 3)
    }
}

/// One store for many timers.
impl<L: Lease> Lease for Arc<L> {
    fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> impl Future<Output = Result<Option<Held>, LeaseError>> + Send {
        L::hold(self, name, owner, ttl)
    }

    fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send {
        L::record(self, name, token, due, at)
    }

    fn release(
        &self,
        name: &str,
        token: Token,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send {
        L::release(self, name, token)
    }

    fn changed(&self, name: &str, ttl: Duration) -> impl Future<Output = ()> + Send {
        L::changed(self, name, ttl)
    }
}
