//! Leases in etcd.

use std::fmt;
use std::time::{Duration, SystemTime};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse, WatchFilterType, WatchOptions,
};
use tokio::time::{sleep, timeout};

use super::contract::Lease;
use super::due;
use super::error::LeaseError;
use super::text;
use super::types::{Held, Owner, Progress, Token};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A [`Lease`] in etcd, among all hosts that reach it: feature `lease-etcd`, rustc 1.85. To build it, `protoc` is needed
/// (Debian: `protobuf-compiler` and `libprotobuf-dev`).
///
/// A lease is three keys: `aioxide/lease/<name>/holder`, which is there while it is held, `…/token`, whose revision is the
/// newest token, and `…/last`, how far the work is. What counts is etcd's clock, which has whole seconds, at least 2 by
/// default, and notices up to a second late: etcd is asked for a second less than the ttl, so that a crash is noticed
/// within the ttl when that is 4 s or more. [`left`](Held::left) is what etcd grants. [`changed`](Lease::changed) watches
/// the key.
///
/// A clone is the same store. It works on the runtime where its client was connected, and as long as that runs. A call
/// fails when there is no answer within 5 s, or for [`hold`](Lease::hold) within a third of the ttl if that is less.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aioxide::lease::LeaseError> {
/// use std::time::Duration;
/// use aioxide::lease::{EtcdLease, Lease, Owner};
///
/// let lease = EtcdLease::connect(["http://etcd-1:2379", "http://etcd-2:2379"]).await?;
/// let held = lease.hold("report", &Owner::unique(), Duration::from_secs(15)).await?;
/// # let _ = held; Ok(()) }
/// ```
#[derive(Clone)]
pub struct EtcdLease(Client);

impl EtcdLease {
    /// Leases in the etcd at these endpoints, without TLS and without a user.
    ///
    /// # Errors
    ///
    /// If an endpoint can't be understood. One that can't be reached is no error yet.
    pub async fn connect<E>(endpoints: impl AsRef<[E]>) -> Result<EtcdLease, LeaseError>
    where
        E: AsRef<str>,
    {
        // So that a connection that has gone silent is replaced.
        let options = ConnectOptions::new()
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(PATIENCE, PATIENCE);
        match Client::connect(endpoints, Some(options)).await {
            Ok(client) => Ok(EtcdLease(client)),
            Err(error) => Err(LeaseError::store("connect to etcd", error)),
        }
    }

    /// Leases through a client of `etcd-client`, for TLS and users.
    pub fn new(client: Client) -> EtcdLease {
        EtcdLease(client)
    }
}

impl fmt::Debug for EtcdLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLease").finish_non_exhaustive()
    }
}

impl Lease for EtcdLease {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        let held = timed(PATIENCE.min(ttl / 3), self.take(name, owner, ttl)).await;
        held.map_err(|error| LeaseError::store(format!("hold lease `{name}`"), error))
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        let last = text::encode(due::nanos(name, due)?, at);
        let Some(revision) = revision(token) else {
            return Err(LeaseError::stale(name, token));
        };
        // A comparison with a key that isn't there fails, so that the first one is written.
        let further = Txn::new()
            .when([Compare::value(
                key(name, "last"),
                CompareOp::Greater,
                last.as_str(),
            )])
            .or_else([TxnOp::put(key(name, "last"), last.as_str(), None)]);
        let newest = Compare::mod_revision(key(name, "token"), CompareOp::Equal, revision);
        let write = Txn::new().when([newest]).and_then([TxnOp::txn(further)]);
        let written = timed(PATIENCE, async { Ok(self.0.clone().txn(write).await?) }).await;
        match written {
            Ok(answer) if answer.succeeded() => Ok(()),
            Ok(_) => Err(LeaseError::stale(name, token)),
            Err(error) => {
                let action = format!("record how far the work of lease `{name}` is");
                Err(LeaseError::store(action, error))
            }
        }
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        let released = timed(PATIENCE, async {
            let mut client = self.0.clone();
            let holder = client.get(key(name, "holder"), None).await?;
            let holder = holder.kvs().first();
            if let Some(ours) = holder.filter(|key| Some(key.create_revision()) == revision(token))
            {
                // The key goes with it.
                client.lease_revoke(ours.lease()).await?;
            }
            Ok(())
        });
        let released = released.await;
        released.map_err(|error| LeaseError::store(format!("release lease `{name}`"), error))
    }

    async fn changed(&self, name: &str, ttl: Duration) {
        // Worth asking again when the watch ends, whatever ended it, and at the latest after the ttl.
        if let Ok(Err(_)) = timeout(ttl, self.removed(name)).await {
            sleep(ttl / 3).await;
        }
    }
}

impl EtcdLease {
    async fn take(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, BoxError> {
        let mut client = self.0.clone();
        let look = Txn::new().and_then([
            TxnOp::get(key(name, "holder"), None),
            TxnOp::get(key(name, "last"), None),
        ]);
        let answer = client.txn(look).await?;
        let [holder, last] = two(answer.op_responses())?;
        if let Some(holder) = holder {
            if holder.value() != owner.as_str().as_bytes() {
                return Ok(None);
            }
            if let Some(granted) = self.renew(holder.lease()).await? {
                return Ok(Some(Held {
                    token: token(holder.create_revision()),
                    left: granted.min(ttl),
                    last: last.as_ref().map(decoded).transpose()?,
                }));
            }
            // It ended between the two.
        }

        // One second is for etcd, which notices that late.
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let granted = client
            .lease_grant((seconds - 1).clamp(1, LONGEST_TTL), None)
            .await?;
        let attached = PutOptions::new().with_lease(granted.id());
        let take = Txn::new()
            .when([Compare::version(key(name, "holder"), CompareOp::Equal, 0)])
            .and_then([
                TxnOp::put(key(name, "holder"), owner.as_str(), Some(attached)),
                TxnOp::put(key(name, "token"), owner.as_str(), None),
                TxnOp::get(key(name, "last"), None),
            ]);
        let answer = client.txn(take).await?;
        if !answer.succeeded() {
            // Another was quicker.
            client.lease_revoke(granted.id()).await?;
            return Ok(None);
        }
        let revision = answer.header().ok_or("etcd gave no header")?.revision();
        let last = match answer.op_responses().into_iter().nth(2) {
            Some(TxnOpResponse::Get(last)) => first(&last),
            _ => return Err("etcd gave no answer to a get".into()),
        };
        Ok(Some(Held {
            token: token(revision),
            left: seconds_of(granted.ttl()).min(ttl),
            last: last.as_ref().map(decoded).transpose()?,
        }))
    }

    /// How long the lease is now held; `None` if it is over.
    async fn renew(&self, lease: i64) -> Result<Option<Duration>, BoxError> {
        let (mut keeper, mut renewed) = match self.0.clone().lease_keep_alive(lease).await {
            Ok(streams) => streams,
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The client keeps the first answer to itself.
        keeper.keep_alive().await?;
        let answer = renewed.message().await?.ok_or("etcd ended a stream")?;
        Ok((answer.ttl() > 0).then(|| seconds_of(answer.ttl())))
    }

    /// Ready when nobody holds the lease.
    async fn removed(&self, name: &str) -> Result<(), BoxError> {
        let mut client = self.0.clone();
        let holder = client.get(key(name, "holder"), None).await?;
        if holder.kvs().is_empty() {
            return Ok(());
        }
        let seen = holder.header().ok_or("etcd gave no header")?.revision();
        let options = WatchOptions::new()
            .with_start_revision(seen + 1)
            .with_filters([WatchFilterType::NoPut]);
        let mut events = client.watch(key(name, "holder"), Some(options)).await?;
        while let Some(answer) = events.message().await? {
            if answer.canceled() || !answer.events().is_empty() {
                return Ok(());
            }
        }
        Err("etcd ended a stream".into())
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What etcd takes at most.
const LONGEST_TTL: i64 = 9_000_000_000;

async fn timed<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    match timeout(patience, call).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {patience:?}").into()),
    }
}

fn key(name: &str, part: &str) -> String {
    format!("aioxide/lease/{name}/{part}")
}

fn token(revision: i64) -> Token {
    Token::new(revision.unsigned_abs())
}

/// Tokens are revisions, which are positive; others were never given out.
fn revision(token: Token) -> Option<i64> {
    i64::try_from(token.get())
        .ok()
        .filter(|revision| *revision > 0)
}

fn seconds_of(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

fn first(answer: &GetResponse) -> Option<KeyValue> {
    answer.kvs().first().cloned()
}

/// The keys that two gets have found.
fn two(answers: Vec<TxnOpResponse>) -> Result<[Option<KeyValue>; 2], BoxError> {
    match answers.as_slice() {
        [TxnOpResponse::Get(one), TxnOpResponse::Get(other)] => Ok([first(one), first(other)]),
        _ => Err("etcd gave no answer to a get".into()),
    }
}

fn decoded(last: &KeyValue) -> Result<(SystemTime, Progress), BoxError> {
    let text = last.value_str()?;
    text::decode(text).ok_or_else(|| format!("`{text}` isn't a due time").into())
}
