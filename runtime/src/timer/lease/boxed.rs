//! A lease whose engine is chosen at run time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::contract::Lease;
use super::error::LeaseError;
use super::types::{Held, Owner, Progress, Token};

/// A [`Lease`] whose engine is chosen at run time. A clone is the same lease.
///
/// ```
/// use aioxide::lease::{BoxLease, Lease, MemoryLease};
/// # fn among_hosts() -> impl Lease { MemoryLease::new() }
///
/// let lease = match std::env::var_os("CLUSTER") {
///     Some(_) => BoxLease::new(among_hosts()),
///     None => BoxLease::new(MemoryLease::new()),
/// };
/// ```
#[derive(Clone)]
pub struct BoxLease(Arc<dyn ErasedLease>);

impl BoxLease {
    /// `lease` without its type.
    pub fn new(lease: impl Lease) -> BoxLease {
        BoxLease(Arc::new(lease))
    }
}

impl fmt::Debug for BoxLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxLease").finish_non_exhaustive()
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Lease`] as a trait object can be.
trait ErasedLease: Send + Sync {
    fn hold<'a>(
        &'a self,
        name: &'a str,
        owner: &'a Owner,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Held>, LeaseError>>;

    fn record<'a>(
        &'a self,
        name: &'a str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> BoxFuture<'a, Result<(), LeaseError>>;

    fn release<'a>(&'a self, name: &'a str, token: Token) -> BoxFuture<'a, Result<(), LeaseError>>;

    fn changed<'a>(&'a self, name: &'a str, ttl: Duration) -> BoxFuture<'a, ()>;
}

impl<L: Lease> ErasedLease for L {
    fn hold<'a>(
        &'a self,
        name: &'a str,
        owner: &'a Owner,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Held>, LeaseError>> {
        Box::pin(Lease::hold(self, name, owner, ttl))
    }

    fn record<'a>(
        &'a self,
        name: &'a str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> BoxFuture<'a, Result<(), LeaseError>> {
        Box::pin(Lease::record(self, name, token, due, at))
    }

    fn release<'a>(&'a self, name: &'a str, token: Token) -> BoxFuture<'a, Result<(), LeaseError>> {
        Box::pin(Lease::release(self, name, token))
    }

    fn changed<'a>(&'a self, name: &'a str, ttl: Duration) -> BoxFuture<'a, ()> {
        Box::pin(Lease::changed(self, name, ttl))
    }
}

impl Lease for BoxLease {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        self.0.hold(name, owner, ttl).await
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        self.0.record(name, token, due, at).await
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        self.0.release(name, token).await
    }

    async fn changed(&self, name: &str, ttl: Duration) {
        self.0.changed(name, ttl).await
    }
}
