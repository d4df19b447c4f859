//! How long new connections wait while one of the workers can't take them: it is blocked, crashes again and again, or is full.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::plan::{Plan, in_turn};
use crate::failures::{Failure, Failures};
use crate::kinds::{ACTIX_WEB, AXUM, HTTP_PROCESSES, HTTP_THREADS, HYPER, Kind};
use crate::running::Server;
use crate::serve::runtime;
use crate::stats::Spread;
use crate::table::{Column, Table, compared, told};

const WORKERS: usize = 4;
/// In each round.
const BLOCKS: u32 = 2;
const BLOCK: Duration = Duration::from_secs(2);
/// From one to the next.
const EVERY: Duration = Duration::from_secs(3);
/// From one connection to the next.
const PACE: Duration = Duration::from_micros(3_333);
const LATE: Duration = Duration::from_millis(150);
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a worker has at most that is to be full.
const MAX_CONNECTIONS: usize = 16;
/// Of which many are made until enough of them have fallen on one worker.
const TRIES: usize = 1000;

const COLUMNS: &[Column] = &[
    compared("p99.9, ms"),
    told("p50, ms"),
    told("over 150 ms, %"),
    told("connections"),
];

const WHILE_BLOCKED: &str = "
300 connections a second, each with a request of HTTP/1.1, whatever became of those before; every 3 s one more request has the
thread that handles it sleep for 2 s. Counted are those that were due during a sleep, from when they were due to the end of
the answer. hyper on bare threads is what SO_REUSEPORT alone makes of it, and actix-web has the workers of actix-server.
What limits: 50 ms in which a loop may do what it likes, and 50 ms for its answer.";

const WHILE_CRASHING: &str = "
As above, while one of the workers crashes 300 ms after it was ready, again and again: with an error, or, if it is a process, by
SIGKILL. aioxide starts it anew after 100 ms, and each time after twice as long; hyper on bare threads does as much by hand, its socket
closed meanwhile, and actix-server does at once. Failed are connections that were refused or reset, or closed before the answer. axum on
tokio's multi-thread runtime has no row: it has no workers that could crash, and a panic costs the request that panics. What limits:
what a worker had accepted when it died is lost.";

const WHILE_FULL: &str = "
As above, while one of the workers has the 16 connections that it may have, which clients keep without a word. hyper on bare threads stops
accepting by a semaphore, as most would do it by hand; what the kernel gives it nevertheless waits until the end of the 6 s, when all are
closed. actix-web's `max_connections` counts those of each worker, as aioxide's does. axum on tokio's multi-thread
runtime has no row: where nothing belongs to a worker, none can be full while others aren't.";

/// What one of the workers has.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Blocked,
    Crashing,
    Full,
}

impl Trouble {
    fn table(self) -> Table {
        let (what, limits) = match self {
            Trouble::Blocked => ("is blocked", WHILE_BLOCKED),
            Trouble::Crashing => ("crashes", WHILE_CRASHING),
            Trouble::Full => ("is full", WHILE_FULL),
        };
        let title = format!("New connections while one of {WORKERS} workers {what}");
        Table::new(title, HYPER.name, COLUMNS, limits)
    }

    fn kinds(self) -> Vec<Kind> {
        let mut kinds = vec![HYPER, HTTP_THREADS, HTTP_PROCESSES, ACTIX_WEB];
        if self == Trouble::Blocked {
            kinds.insert(3, AXUM);
        }
        kinds
    }

    fn options(self) -> Vec<String> {
        match self {
            Trouble::Blocked => vec![],
            Trouble::Crashing => vec!["--crash-loop".to_owned()],
            Trouble::Full => vec![format!("--max-connections={MAX_CONNECTIONS}")],
        }
    }
}

/// What became of connections.
struct Waits {
    /// In microseconds, of those that were answered.
    waits: Histogram<u64>,
    failures: Failures,
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    [Trouble::Blocked, Trouble::Crashing, Trouble::Full]
        .into_iter()
        .map(|trouble| in_trouble(plan, trouble))
        .collect()
}

fn in_trouble(plan: &Plan, trouble: Trouble) -> Result<Table> {
    let mut table = trouble.table();
    let options = trouble.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let kinds = trouble.kinds().into_iter();
    let mut kinds: Vec<_> = kinds.map(|kind| (kind, Failures::default(), 0)).collect();
    for round in 0..plan.few_rounds() {
        for (kind, failures, made) in in_turn(&mut kinds, round) {
            let server = Server::start_with(*kind, WORKERS, None, &options)?;
            let waits = runtime()?.block_on(waits(server.address, trouble));
            let Waits {
                waits,
                failures: of_round,
            } = waits.with_context(|| kind.name)?;
            match trouble {
                // A worker that is about to crash may do so while the server stops, which is no success.
                Trouble::Crashing => drop(server),
                Trouble::Blocked | Trouble::Full => drop(server.program.stop()?),
            }
            let answered = waits.len() as f64;
            let late = answered - waits.count_between(0, micros(LATE)) as f64;
            let [p999, p50] = [0.999, 0.5].map(|part| waits.value_at_quantile(part) as f64 / 1e3);
            let connections = answered + of_round.sum() as f64;
            table.add(kind.name, [p999, p50, 100.0 * late / answered, connections]);
            failures.add(&of_round);
            *made += waits.len() + of_round.sum();
        }
    }
    for (kind, failures, made) in kinds {
        table.remark(
            "failed connections",
            kind.name,
            format!("{failures} of {made}"),
        );
        if [HTTP_THREADS, HTTP_PROCESSES].contains(&kind) {
            table.bound_on(kind.name, 0, 250.0);
            table.bound_on(kind.name, 2, 1.0);
            if trouble != Trouble::Crashing {
                let claim = format!("{}, failed connections", kind.name);
                table.bound(claim, Spread::of(&[failures.sum() as f64]), 0.0);
            }
        }
    }
    Ok(table)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn waits(address: SocketAddr, trouble: Trouble) -> Result<Waits> {
    let held = match trouble {
        Trouble::Full => fill(address).await?,
        Trouble::Blocked | Trouble::Crashing => vec![],
    };
    let mut connections = JoinSet::new();
    let mut blocks = JoinSet::new();
    let mut pace = interval(PACE);
    for _ in 0..BLOCKS {
        let mut after = Duration::ZERO;
        while after < EVERY {
            let due = pace.tick().await;
            if trouble == Trouble::Blocked && after.is_zero() {
                blocks.spawn(get(address, format!("/block/{}", BLOCK.as_millis())));
            } else {
                let counts = trouble != Trouble::Blocked || after < BLOCK;
                connections.spawn(async move {
                    let ended = get(address, "/?".to_owned()).await;
                    counts.then(|| ended.map(|()| due.elapsed()))
                });
            }
            after += PACE;
        }
    }
    drop(held);
    let mut all = Waits {
        waits: Histogram::new(3)?,
        failures: Failures::default(),
    };
    while let Some(done) = connections.join_next().await {
        match done? {
            Some(Ok(wait)) => all.waits += micros(wait),
            Some(Err(error)) => all.failures.count(Failure::from(error)),
            None => {}
        }
    }
    while let Some(done) = blocks.join_next().await {
        done?.context("a request that blocks failed")?;
    }
    Ok(all)
}

/// As many connections of one worker as it may have.
async fn fill(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    let mut filled = None;
    for _ in 0..TRIES {
        let mut stream = TcpStream::connect(address).await?;
        let worker = timeout(TIMEOUT, worker(&mut stream)).await??;
        if *filled.get_or_insert_with(|| worker.clone()) == worker {
            held.push(stream);
        }
        if held.len() == MAX_CONNECTIONS {
            return Ok(held);
        }
    }
    bail!("of {TRIES} connections {} fell on one worker", held.len())
}

/// Which one handles this connection, which is kept.
async fn worker(stream: &mut TcpStream) -> io::Result<String> {
    stream
        .write_all(b"GET /worker HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let line = text.split_once("\r\n\r\n").map(|(_, line)| line);
        if let Some(line) = line.filter(|line| line.ends_with('\n')) {
            return Ok(line.to_owned());
        }
    }
}

/// On a connection of its own.
async fn get(address: SocketAddr, path: String) -> io::Result<()> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        match answer.starts_with(b"HTTP/1.1 200 ") {
            true => Ok(()),
            false if answer.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            false => Err(io::Error::other(String::from_utf8_lossy(&answer))),
        }
    };
    timeout(TIMEOUT, asked).await?
}
