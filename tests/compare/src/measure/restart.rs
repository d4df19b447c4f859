//! Rolling restarts under load, one after the other.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::plan::{Plan, in_turn};
use crate::kinds::{Kind, PROCESSES, THREADS};
use crate::load::{Load, Outcome, Protocol};
use crate::running::Server;
use crate::serve::runtime;
use crate::stats::Spread;
use crate::table::{Column, Table, told};

const WORKERS: usize = 2;
/// Between two of them.
const REST: Duration = Duration::from_millis(100);
const DONE: &str = "rolling restart done";

const COLUMNS: &[Column] = &[
    told("restarts"),
    told("a restart, ms"),
    told("connections"),
    told("p50, µs"),
    told("p99, µs"),
];

const LIMITS: &str = "
64 clients, each with a connection for each request, while SIGHUP follows SIGHUP; figures are those of one round. No
peer has a row, because none has a rolling restart: actix-server and aiotools stop all workers and start the program
again, and what hand-written runtimes would do is up to the hand. Persistent connections are left out: they live as
long as the drain of their worker lets them, which is the program's choice. What limits: as with the echo on fresh
connections, the machine's cores, which the successors' start shares.";

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let title = format!("Rolling restart under load, {WORKERS} workers");
    let mut table = Table::new(title, THREADS.name, COLUMNS, LIMITS);
    let mut kinds = [(THREADS, Outcome::none()?), (PROCESSES, Outcome::none()?)];
    for round in 0..plan.few_rounds() {
        for (kind, lost) in in_turn(&mut kinds, round) {
            let (outcome, restarts) = restarted(*kind, plan.time * 4)?;
            lost.add(&outcome)?;
            let each = Spread::of(&restarts).median;
            let [p50, p99] = [0.5, 0.99].map(|quantile| outcome.latency(quantile));
            let (count, made) = (restarts.len() as f64, outcome.connections as f64);
            table.add(kind.name, [count, each, made, p50, p99]);
        }
    }
    for (kind, lost) in kinds {
        table.remark("lost connections", kind.name, lost.failed_connections());
        let claim = format!("{}, lost connections", kind.name);
        table.bound(claim, Spread::of(&[lost.failures.sum() as f64]), 0.0);
    }
    Ok(vec![table])
}

/// What became of a load of this length, and how long each of the restarts meanwhile took, in ms.
fn restarted(kind: Kind, time: Duration) -> Result<(Outcome, Vec<f64>)> {
    let server = Server::start(kind, WORKERS, None)?;
    let load = Load {
        fresh: true,
        ..Load::new(server.address, Protocol::Bytes)
    };
    let loading = thread::spawn(move || runtime()?.block_on(load.clients().run(time)));
    let mut restarts = Vec::new();
    while !loading.is_finished() {
        let asked = Instant::now();
        server.program.signal(Signal::HUP)?;
        server.program.line_with(DONE)?;
        restarts.push(asked.elapsed().as_secs_f64() * 1e3);
        thread::sleep(REST);
    }
    let outcome = loading
        .join()
        .ok()
        .context("the load generator panicked")??;
    server.program.stop()?;
    Ok((outcome, restarts))
}
