//! A URL shortener: axum in front of a SQL database, each worker a process that may die without loss.
//!
//! ```text
//! cargo run --release -p aioxide-examples --features shorten --bin shorten -- --listen 127.0.0.1:8080 --workers 4
//! ```
//!
//! Links are kept in the SQLite file `shorten.db`, or wherever `DATABASE_URL` says: `postgres://user@host/name`
//! works too.
//!
//! ```text
//! $ curl -d https://www.rust-lang.org/learn 127.0.0.1:8080
//! /Xa8BqWnd
//! $ curl -i 127.0.0.1:8080/Xa8BqWnd
//! ```
//!
//! Several URLs, one a line, are all shortened or none.
//!
//! One of the workers removes expired links. A report is logged every night, and at SIGUSR1: by one worker of all hosts
//! that share a PostgreSQL database, or else of those of this host that share the folder `--leases`.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aioxide::lease::{BoxLease, FileLease, LeaseError, PostgresLease};
use aioxide::{Tick, Worker, actxmgr, server, timer};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use clap::Parser;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Transaction};
use tracing::{error, info};

/// Shortens URLs.
#[derive(Clone, Parser)]
struct Options {
    /// Where to listen: an address or a host name, with a port; port 0 picks a free one.
    #[arg(long, short, default_value = "127.0.0.1:8080")]
    listen: String,
    /// How many worker processes.
    #[arg(long, short, default_value_t = 4)]
    workers: usize,
    /// Where the links are kept.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://shorten.db?mode=rwc"
    )]
    database: String,
    /// For how long a link works, in seconds.
    #[arg(long, default_value_t = 24 * 60 * 60)]
    lifetime: u64,
    /// How often expired links are removed, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    sweep: u64,
    /// The folder of the files by which workers agree who makes the nightly report, unless PostgreSQL does that.
    #[arg(long, default_value = "shorten.leases")]
    leases: PathBuf,
    /// Opens a door into the running server for its operator: for `nc -U`, `curl --unix-socket` and the command `aioxide`.
    #[arg(long)]
    monitor: bool,
    /// Where health checks and figures are answered over HTTP, such as `127.0.0.1:9090`.
    #[arg(long)]
    health: Option<String>,
}

/// Has the table made, by the supervisor and before there are workers: they would be in each other's way.
#[actxmgr]
async fn schema() -> Result<String, sqlx::Error> {
    let Options { database, .. } = Options::parse();
    install_default_drivers();
    let mut connection = AnyConnection::connect(&database).await?;
    if database.starts_with("sqlite:") {
        // Readers and the one writer don't wait for each other then; the file remembers it.
        sqlx::query("PRAGMA journal_mode = WAL")
            .execute(&mut connection)
            .await?;
    }
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS links (code TEXT PRIMARY KEY, url TEXT NOT NULL, expires BIGINT NOT NULL)",
    )
    .execute(&mut connection)
    .await?;
    connection.close().await?;
    yield_(database).await;
    Ok(())
}

/// A worker's connections to the database.
#[actxmgr]
async fn pool(database: String) -> Result<AnyPool, sqlx::Error> {
    install_default_drivers();
    let pool = AnyPoolOptions::new()
        .max_connections(4)
        .connect(&database)
        .await?;
    let (pool, _) = yield_(pool).await;
    // Waits for those that are in use.
    pool.close().await;
    Ok(())
}

/// Committed when the caller's work came to its proper end, else rolled back: also when the client went away and
/// the request's handler was dropped half-way.
#[actxmgr]
async fn transaction(pool: AnyPool) -> Result<Transaction<'static, Any>, sqlx::Error> {
    let transaction = pool.begin().await?;
    let (transaction, exit) = yield_(transaction).await;
    if exit.is_success() {
        transaction.commit().await
    } else {
        transaction.rollback().await
    }
}

/// What requests and timers work with.
#[derive(Clone)]
struct Links {
    pool: AnyPool,
    lifetime: Duration,
    sweep: Duration,
}

/// What workers agree by who makes the report.
async fn lease(database: &str, folder: PathBuf) -> Result<BoxLease, LeaseError> {
    if !database.starts_with("postgres") {
        return FileLease::new(folder).map(BoxLease::new);
    }
    let lease = PostgresLease::new(database)?;
    lease.setup().await?;
    Ok(BoxLease::new(lease))
}

/// Missed while nothing ran, it is made up for once there is a worker again.
#[timer(cron = "0 3 * * *", single = lease)]
async fn report(tick: Tick, links: Links, lease: BoxLease) -> Result<(), sqlx::Error> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM links")
        .fetch_one(&links.pool)
        .await?;
    info!(links = count, due = tick.scheduled_local(), "report");
    Ok(())
}

#[timer(links.sweep, single)]
async fn remove_expired(links: Links) -> Result<(), sqlx::Error> {
    let removed = sqlx::query("DELETE FROM links WHERE expires <= $1")
        .bind(milliseconds_since_1970())
        .execute(&links.pool)
        .await?
        .rows_affected();
    if removed > 0 {
        info!(removed, pid = std::process::id(), "expired links");
    }
    Ok(())
}

async fn shorten_all(State(links): State<Links>, urls: String) -> Result<Response, Failure> {
    let expires = milliseconds_since_1970() + milliseconds(links.lifetime);
    let mut transaction = transaction(links.pool).await?;
    let codes = add(&mut transaction, &urls, expires).await;
    let codes = transaction.exit_as(codes).await?;
    Ok((StatusCode::CREATED, codes).into_response())
}

async fn add(links: &mut AnyConnection, urls: &str, expires: i64) -> Result<String, Failure> {
    let mut codes = String::new();
    for url in urls.lines() {
        let parsed = url.parse::<Uri>().ok();
        if parsed.is_none_or(|url| url.scheme().is_none()) {
            return Err(Failure::NoUrl(url.to_owned()));
        }
        let code = loop {
            let code: String = (0..8).map(|_| fastrand::alphanumeric()).collect();
            let added = sqlx::query("INSERT INTO links VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(&code)
                .bind(url)
                .bind(expires)
                .execute(&mut *links)
                .await?;
            if added.rows_affected() == 1 {
                break code;
            }
        };
        codes += &format!("/{code}\n");
    }
    if codes.is_empty() {
        return Err(Failure::NoUrl(String::new()));
    }
    Ok(codes)
}

async fn follow(State(links): State<Links>, Path(code): Path<String>) -> Result<Redirect, Failure> {
    let url: Option<String> =
        sqlx::query_scalar("SELECT url FROM links WHERE code = $1 AND expires > $2")
            .bind(code)
            .bind(milliseconds_since_1970())
            .fetch_optional(&links.pool)
            .await?;
    Ok(Redirect::temporary(&url.ok_or(Failure::Unknown)?))
}

/// Why a request failed.
#[derive(Debug)]
enum Failure {
    NoUrl(String),
    Unknown,
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure::Database(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoUrl(text) => write!(f, "not a URL: {text}"),
            Failure::Unknown => f.write_str("no such link"),
            Failure::Database(error) => error.fmt(f),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self {
            Failure::NoUrl(_) => StatusCode::BAD_REQUEST,
            Failure::Unknown => StatusCode::NOT_FOUND,
            Failure::Database(error) => {
                // Not the client's business.
                error!(%error, "the database failed");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        (status, format!("{self}\n")).into_response()
    }
}

fn milliseconds_since_1970() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, milliseconds)
}

/// As the database has it.
fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

#[server(
    workers = options.workers,
    isolation = process,
    main = schema,
    on_failure = restart,
)]
async fn shorten(
    worker: Worker,
    database: String,
    options: Options,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let lease = lease(&database, options.leases).await?;
    let pool = pool(database).await?;
    let links = Links {
        pool: pool.clone(),
        lifetime: Duration::from_secs(options.lifetime),
        sweep: Duration::from_secs(options.sweep),
    };
    // Each worker starts them, and one at a time runs each.
    let expiry = remove_expired(links.clone());
    let nightly = report(links.clone(), lease);
    let mut wanted = worker.reloads();
    worker.tasks().spawn_local(async move {
        while wanted.recv().await.is_some() {
            nightly.trigger();
        }
        nightly.stop().await;
    });
    let app = Router::new()
        .route("/", post(shorten_all))
        .route("/{code}", get(follow))
        .with_state(links);
    let listener = worker.listen(options.listen).await?;
    let serving = worker.serve_http(listener, app);
    info!(worker = worker.index(), pid = std::process::id(), "set up");

    let stop = yield_().await;

    serving.drain(&stop).await;
    expiry.stop().await;
    pool.exit().await?;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (monitor, health) = (options.monitor, options.health.clone());
    aioxide::logging::init();
    let server = shorten(options).monitor(monitor);
    match health {
        Some(address) => server.health(address).run(),
        None => server.run(),
    }
}
