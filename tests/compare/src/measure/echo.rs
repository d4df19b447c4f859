//! Echo on persistent and on fresh connections, with 1 and with 2 workers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::plan::{Plan, in_turn};
use crate::load::{Failed, Load, Outcome};
use crate::processes::cpu_nanos;
use crate::running::{ACTIX, BARE_THREADS, PROCESSES, Server, THREADS, kinds};
use crate::serve::runtime;
use crate::table::{Column, Table, compared, told};

const CONNECTIONS: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Turns of each server in a round: short, so that what else the machine does meets all of them, and each with new
/// connections, because how evenly these fall on the workers makes a difference.
const TURNS: u32 = 4;

const COLUMNS: &[Column] = &[
    compared("server CPU per request, µs"),
    told("requests/s"),
    told("p50, µs"),
    told("p99, µs"),
];

const LIMITS: &str = "
The load generator has one thread and its 64 clients wait for each answer: on a machine with few cores it is what
saturates first, and it takes its core from the workers. So compare CPU per request; requests per second and latencies
are those of both ends together. aiotools' workers read and write streams.";

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for workers in [1, 2] {
        tables.extend(with_workers(plan, workers)?);
    }
    // Persistent connections first.
    tables.sort_by_key(|table| table.title.contains("fresh"));
    Ok(tables)
}

fn with_workers(plan: &Plan, workers: usize) -> Result<[Table; 2]> {
    let plural = if workers == 1 { "" } else { "s" };
    let mut tables = ["persistent", "fresh"].map(|connections| {
        let title = format!("Echo on {connections} connections, {workers} worker{plural}");
        Table::new(title, BARE_THREADS.name, COLUMNS, LIMITS)
    });
    let runtime = runtime()?;
    let kinds = kinds(plan.python.as_ref());
    let mut failed: Vec<[Failed; 2]> = kinds.iter().map(|_| Default::default()).collect();
    for round in 0..plan.rounds {
        let mut servers = Vec::new();
        for (kind, failed) in kinds.iter().zip(&mut failed) {
            let server = Server::start(*kind, workers, plan.python.as_ref())?;
            let family = server.program.family()?;
            servers.push((kind, server, family, failed, [const { Vec::new() }; 2]));
        }
        for turn in 0..TURNS as usize {
            for (_, server, family, failed, turns) in in_turn(&mut servers, round + turn) {
                for (fresh, (failed, turns)) in
                    [false, true].into_iter().zip(failed.iter_mut().zip(turns))
                {
                    let load = Load {
                        address: server.address,
                        connections: CONNECTIONS,
                        fresh,
                        timeout: TIMEOUT,
                    };
                    let mut clients = load.clients();
                    let time = plan.time / TURNS;
                    let warm_up = runtime.block_on(clients.run(time / 10))?;
                    let before = cpu_nanos(family)?;
                    let outcome = runtime.block_on(clients.run(time))?;
                    let cpu = cpu_nanos(family)? - before;
                    failed.add(&warm_up);
                    failed.add(&outcome);
                    turns.push((outcome, cpu));
                }
            }
        }
        for (kind, server, _, _, turns) in servers {
            server.program.stop()?;
            for (table, turns) in tables.iter_mut().zip(turns) {
                table.add(kind.name, figures(turns).with_context(|| kind.name)?);
            }
        }
    }
    for (kind, failed) in kinds.iter().zip(failed) {
        for (table, failed) in tables.iter_mut().zip(failed) {
            table.remark("failed connections", kind.name, failed.to_string());
        }
    }
    if workers == 2 {
        let [persistent, fresh] = &mut tables;
        for kind in [THREADS, PROCESSES] {
            persistent.bound_on_ratio(kind.name, BARE_THREADS.name, 0, 1.03);
            persistent.bound_on_ratio(kind.name, ACTIX.name, 0, 1.0);
            fresh.bound_on_ratio(kind.name, ACTIX.name, 0, 0.85);
        }
    }
    Ok(tables)
}

/// Of a round's turns, each with the nanoseconds of its server.
fn figures(turns: Vec<(Outcome, u64)>) -> Result<[f64; 4]> {
    let nanos: u64 = turns.iter().map(|(_, nanos)| nanos).sum();
    let mut outcomes = turns.into_iter().map(|(outcome, _)| outcome);
    let mut all = outcomes.next().context("no turns")?;
    for outcome in outcomes {
        all.add(&outcome)?;
    }
    ensure!(
        all.requests > 0,
        "no request was answered: {}",
        all.failures
    );
    Ok([
        nanos as f64 / 1e3 / all.requests as f64,
        all.per_second(),
        all.latency(0.5),
        all.latency(0.99),
    ])
}
