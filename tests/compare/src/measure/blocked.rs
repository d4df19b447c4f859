//! How long new connections wait while one of the workers is blocked.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::plan::{Plan, in_turn};
use crate::kinds::{ACTIX_WEB, AXUM, HTTP_PROCESSES, HTTP_THREADS, HYPER};
use crate::running::Server;
use crate::serve::runtime;
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

const COLUMNS: &[Column] = &[
    compared("p99.9, ms"),
    told("p50, ms"),
    told("over 150 ms, %"),
    told("connections"),
];

const LIMITS: &str = "
300 connections a second, each with a request of HTTP/1.1, whatever became of those before; every 3 s one more request has the
thread that handles it sleep for 2 s. Counted are those that were due during a sleep, from when they were due to the end of
the answer. hyper on bare threads is what SO_REUSEPORT alone makes of it, and actix-web has the workers of actix-server.
What limits: 50 ms in which a loop may do what it likes, and 50 ms for its answer.";

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let title = format!("New connections while one of {WORKERS} workers is blocked");
    let mut table = Table::new(title, HYPER.name, COLUMNS, LIMITS);
    let mut kinds = [HYPER, HTTP_THREADS, HTTP_PROCESSES, AXUM, ACTIX_WEB];
    for round in 0..plan.few_rounds() {
        for kind in in_turn(&mut kinds, round) {
            let server = Server::start(*kind, WORKERS, None)?;
            let waits = runtime()?.block_on(waits(server.address));
            let waits = waits.with_context(|| kind.name)?;
            server.program.stop()?;
            let connections = waits.len() as f64;
            let late = connections - waits.count_between(0, micros(LATE)) as f64;
            let [p999, p50] = [0.999, 0.5].map(|part| waits.value_at_quantile(part) as f64 / 1e3);
            table.add(
                kind.name,
                [p999, p50, 100.0 * late / connections, connections],
            );
        }
    }
    for kind in [HTTP_THREADS, HTTP_PROCESSES] {
        table.bound_on(kind.name, 0, 250.0);
        table.bound_on(kind.name, 2, 1.0);
    }
    Ok(vec![table])
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// In microseconds.
async fn waits(address: SocketAddr) -> Result<Histogram<u64>> {
    let mut connections = JoinSet::new();
    let mut blocks = JoinSet::new();
    let mut pace = interval(PACE);
    for _ in 0..BLOCKS {
        let mut after = Duration::ZERO;
        while after < EVERY {
            let due = pace.tick().await;
            if after.is_zero() {
                blocks.spawn(get(address, format!("/block/{}", BLOCK.as_millis())));
            } else {
                let meanwhile = after < BLOCK;
                connections.spawn(async move {
                    get(address, "/?".to_owned()).await?;
                    io::Result::Ok(meanwhile.then(|| due.elapsed()))
                });
            }
            after += PACE;
        }
    }
    let mut waits = Histogram::new(3)?;
    while let Some(done) = connections.join_next().await {
        if let Some(wait) = done?.context("a connection failed")? {
            waits += micros(wait);
        }
    }
    while let Some(done) = blocks.join_next().await {
        done?.context("a request that blocks failed")?;
    }
    Ok(waits)
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
            false => Err(io::Error::other(String::from_utf8_lossy(&answer))),
        }
    };
    timeout(TIMEOUT, asked).await?
}
