//! Leases in a table of PostgreSQL.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, broadcast};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Socket};

use super::contract::Lease;
use super::due;
use super::error::LeaseError;
use super::types::{Held, Owner, Progress, Token};

/// How long an answer may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Far beyond any ttl, and within what PostgreSQL can add to a time.
const LONGEST_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const SETUP: &str = "
DO $$ BEGIN
    -- Two that make a table at the same time get an error, `IF NOT EXISTS` or not.
    PERFORM pg_advisory_xact_lock(hashtext('aioxide_lease'));
    CREATE TABLE IF NOT EXISTS aioxide_lease (
        name text PRIMARY KEY,
        token bigint NOT NULL,
        owner text,
        expires timestamptz,
        due bigint,
        done boolean
    );
    COMMENT ON TABLE aioxide_lease IS 'Leases of timers; `due` is in nanoseconds since 1970.';
END $$";

// `clock_timestamp()`, because `now()` doesn't go on while a statement waits for the row.
const HOLD: &str = "
INSERT INTO aioxide_lease AS lease (name, token, owner, expires)
VALUES ($1, 1, $2, clock_timestamp() + $3 * interval '1 microsecond')
ON CONFLICT (name) DO UPDATE SET
    token = lease.token
        + CASE WHEN lease.owner = $2 AND lease.expires > clock_timestamp() THEN 0 ELSE 1 END,
    owner = $2,
    expires = clock_timestamp() + $3 * interval '1 microsecond'
WHERE lease.owner IS NULL OR lease.owner = $2 OR lease.expires <= clock_timestamp()
RETURNING token, due, done";

const RECORD: &str = "
UPDATE aioxide_lease SET
    due = CASE WHEN (due, done) > ($3, $4) THEN due ELSE $3 END,
    done = CASE WHEN (due, done) > ($3, $4) THEN done ELSE $4 END
WHERE name = $1 AND token = $2
RETURNING name";

// What is notified is short enough for any name.
const RELEASE: &str = "
WITH released AS (
    UPDATE aioxide_lease SET owner = NULL, expires = NULL
    WHERE name = $1 AND token = $2 AND owner IS NOT NULL
    RETURNING name
) SELECT pg_notify('aioxide_lease', left(name, 1000)) FROM released";

const LEFT: &str = "
SELECT (EXTRACT(EPOCH FROM expires - clock_timestamp()) * 1000000)::bigint
FROM aioxide_lease
WHERE name = $1 AND owner IS NOT NULL AND expires > clock_timestamp()";

/// A [`Lease`] in a table of PostgreSQL, among all hosts that reach it: feature `lease-postgres`, rustc 1.85.
///
/// The table is `aioxide_lease`, in the first schema of the connection's `search_path`; [`setup`](PostgresLease::setup)
/// makes it. What counts is the database's clock. [`changed`](Lease::changed) hears of a release by `NOTIFY`, and knows
/// when a lease is over that nobody releases, so that a crash is noticed within the ttl. A database that may lose what it
/// has committed (`synchronous_commit = off`, an asynchronous replica that takes over) may give a token twice.
///
/// A clone is the same store. All of its timers share one connection, which is opened when it is needed, lives on the
/// runtime that opened it, and is replaced when it breaks. It must not go through a pooler that shares sessions, as
/// PgBouncer does in its mode `transaction`: notifications would be lost, and a release be noticed only when the ttl is
/// over.
///
/// A call fails when there is no answer within 5 s, or for [`hold`](Lease::hold) within a third of the ttl if that is less.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aioxide::lease::LeaseError> {
/// use std::time::Duration;
/// use aioxide::lease::{Lease, Owner, PostgresLease};
///
/// let lease = PostgresLease::new("postgres://report@db/report")?;
/// lease.setup().await?;
/// let held = lease.hold("report", &Owner::unique(), Duration::from_secs(15)).await?;
/// # let _ = held; Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresLease(Arc<Database>);

struct Database {
    open: Open,
    link: Mutex<Option<Arc<Link>>>,
}

/// Opens a connection, whatever its TLS.
type Open = Box<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<Link, tokio_postgres::Error>> + Send>>
        + Send
        + Sync,
>;

/// An open connection.
struct Link {
    client: Client,
    /// Stays where it is: a copy of it hears of what is released from then on.
    released: broadcast::Receiver<String>,
    task: AbortHandle,
}

impl PostgresLease {
    /// Leases in the database at `url`: a URL as for `psql`, or `key=value` pairs. Doesn't connect yet.
    ///
    /// # Errors
    ///
    /// If `url` can't be understood.
    pub fn new(url: &str) -> Result<PostgresLease, LeaseError> {
        PostgresLease::with_tls(url, NoTls)
    }

    /// As [`new`](PostgresLease::new), over TLS, for example with `MakeRustlsConnect` of `tokio-postgres-rustls`.
    ///
    /// # Errors
    ///
    /// If `url` can't be understood.
    pub fn with_tls<T>(url: &str, tls: T) -> Result<PostgresLease, LeaseError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        // The text may hold a password, so it isn't repeated.
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            LeaseError::store("understand the URL of PostgreSQL", error)
        })?;
        let open = move || -> Pin<Box<dyn Future<Output = _> + Send>> {
            let (config, tls) = (config.clone(), tls.clone());
            Box::pin(async move { Link::open(config, tls).await })
        };
        Ok(PostgresLease(Arc::new(Database {
            open: Box::new(open),
            link: Mutex::new(None),
        })))
    }

    /// Makes the table, unless it is there. It may be called by any number of processes at once.
    ///
    /// # Errors
    ///
    /// If the database can't be reached, or doesn't let the user make a table.
    pub async fn setup(&self) -> Result<(), LeaseError> {
        let database = &self.0;
        let made = database.ask(PATIENCE, SETUP, &[]).await;
        made.map_err(|error| LeaseError::store("make the table `aioxide_lease`", error))?;
        Ok(())
    }
}

impl fmt::Debug for PostgresLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLease").finish_non_exhaustive()
    }
}

impl Lease for PostgresLease {
    async fn hold(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<Option<Held>, LeaseError> {
        let failed = |error| LeaseError::store(format!("hold lease `{name}`"), error);
        // At most 100 years of microseconds.
        let micros = ttl.min(LONGEST_TTL).as_micros() as i64;
        let rows = self
            .0
            .ask(
                PATIENCE.min(ttl / 3),
                HOLD,
                &[
                    (&name, Type::TEXT),
                    (&owner.as_str(), Type::TEXT),
                    (&micros, Type::INT8),
                ],
            )
            .await
            .map_err(failed)?;
        match rows.first() {
            Some(row) => held(row, ttl)
                .map(Some)
                .map_err(|error| failed(error.into())),
            None => Ok(None),
        }
    }

    async fn record(
        &self,
        name: &str,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), LeaseError> {
        let nanos = due::nanos(name, due)?;
        let done = at == Progress::Done;
        let rows = match number(token) {
            Some(token) => self
                .0
                .ask(
                    PATIENCE,
                    RECORD,
                    &[
                        (&name, Type::TEXT),
                        (&token, Type::INT8),
                        (&nanos, Type::INT8),
                        (&done, Type::BOOL),
                    ],
                )
                .await
                .map_err(|error| {
                    LeaseError::store(
                        format!("record how far the work of lease `{name}` is"),
                        error,
                    )
                })?,
            None => Vec::new(),
        };
        match rows.is_empty() {
            true => Err(LeaseError::stale(name, token)),
            false => Ok(()),
        }
    }

    async fn release(&self, name: &str, token: Token) -> Result<(), LeaseError> {
        let Some(token) = number(token) else {
            return Ok(());
        };
        let released = self
            .0
            .ask(
                PATIENCE,
                RELEASE,
                &[(&name, Type::TEXT), (&token, Type::INT8)],
            )
            .await;
        match released {
            Ok(_) => Ok(()),
            Err(error) => Err(LeaseError::store(format!("release lease `{name}`"), error)),
        }
    }

    async fn changed(&self, name: &str, ttl: Duration) {
        // Whoever listens before it looks misses nothing. Without an answer, `hold` tells why.
        let Ok(Ok(link)) = timeout(PATIENCE, self.0.link()).await else {
            return sleep(ttl / 3).await;
        };
        let mut released = link.released.resubscribe();
        drop(link);
        let left = match self.0.ask(PATIENCE, LEFT, &[(&name, Type::TEXT)]).await {
            Ok(rows) => rows.first().map(|row| row.try_get::<_, i64>(0)),
            Err(_) => return sleep(ttl / 3).await,
        };
        let Some(left) = left else {
            return;
        };
        let left = u64::try_from(left.unwrap_or(0)).unwrap_or(0);
        let over = Duration::from_micros(left).min(ttl);
        let told = async {
            // An end of the connection, or too many at once, may be one as well.
            while let Ok(start) = released.recv().await {
                if name.starts_with(&start) {
                    return;
                }
            }
        };
        // Whichever it is, it is worth asking again.
        let _ = timeout(over, told).await;
    }
}

fn held(row: &Row, ttl: Duration) -> Result<Held, tokio_postgres::Error> {
    let token: i64 = row.try_get(0)?;
    let due: Option<i64> = row.try_get(1)?;
    let done: Option<bool> = row.try_get(2)?;
    let at = match done {
        Some(true) => Progress::Done,
        _ => Progress::Started,
    };
    Ok(Held {
        token: Token::new(token.unsigned_abs()),
        left: ttl,
        last: due.and_then(due::due).map(|due| (due, at)),
    })
}

/// A token as SQL has it; those beyond were never given out.
fn number(token: Token) -> Option<i64> {
    i64::try_from(token.get()).ok()
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Database {
    /// The rows that a statement gives. It is sent anew, once, when the connection turns out to be broken: all of them
    /// may be repeated.
    async fn ask(
        &self,
        patience: Duration,
        statement: &str,
        arguments: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, BoxError> {
        let answered = timeout(patience, async {
            let link = self.link().await?;
            match link.client.query_typed(statement, arguments).await {
                Err(error) if error.as_db_error().is_none() => {
                    self.give_up(&link).await;
                    let link = self.link().await?;
                    link.client.query_typed(statement, arguments).await
                }
                answer => answer,
            }
        });
        match answered.await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                Err("there is no table `aioxide_lease`; `PostgresLease::setup` makes it".into())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                // What goes through a broken network isn't refused, it is lost.
                if let Ok(mut link) = self.link.try_lock() {
                    if let Some(link) = link.take() {
                        link.task.abort();
                    }
                }
                Err(format!("no answer within {patience:?}").into())
            }
        }
    }

    /// The connection, opened if there is none. Who waits here while another opens it gets the same.
    async fn link(&self) -> Result<Arc<Link>, tokio_postgres::Error> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.client.is_closed()) {
            return Ok(Arc::clone(link));
        }
        *current = None;
        let link = Arc::new((self.open)().await?);
        *current = Some(Arc::clone(&link));
        Ok(link)
    }

    async fn give_up(&self, broken: &Arc<Link>) {
        broken.task.abort();
        let mut current = self.link.lock().await;
        if current
            .as_ref()
            .is_some_and(|link| Arc::ptr_eq(link, broken))
        {
            *current = None;
        }
    }
}

impl Link {
    async fn open<T>(config: Config, tls: T) -> Result<Link, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, mut connection) = config.connect(tls).await?;
        let (sender, released) = broadcast::channel(64);
        let task = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => {
                        // Without a timer that waits nobody hears it.
                        let _ = sender.send(notification.payload().to_owned());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        let error = LeaseError::store("keep the connection of leases", error);
                        return tracing::debug!("{error}");
                    }
                    None => return,
                }
            }
        });
        let link = Link {
            client,
            released,
            task: task.abort_handle(),
        };
        link.client.batch_execute("LISTEN aioxide_lease").await?;
        Ok(link)
    }
}
