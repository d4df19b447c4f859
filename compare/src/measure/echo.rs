//! Echo on persistent and on fresh connections, with 1 and with 2 workers.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Plan, in_turn};
use crate::load::{Load, Outcome};
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
    let mut totals: Vec<[Option<Outcome>; 2]> = kinds.iter().map(|_| [None, None]).collect();
    for round in 0..plan.rounds {
        let mut servers = Vec::new();
        for kind in &kinds {
            let server = Server::start(*kind, workers, plan.python.as_ref())?;
            let family = server.program.family()?;
            servers.push((kind, server, family, [const { None::<(Outcome, u64)> }; 2]));
        }
        for turn in 0..TURNS as usize {
            for (kind, server, family, sums) in in_turn(&mut servers, round + turn) {
                for (fresh, sum) in [false, true].into_iter().zip(sums) {
                    let mut load = Load {
                        address: server.address,
                        connections: CONNECTIONS,
                        duration: plan.time / TURNS / 10,
                        fresh,
                        timeout: TIMEOUT,
                    };
                    runtime.block_on(load.run())?;
                    load.duration = plan.time / TURNS;
                    let before = cpu_nanos(family)?;
                    let outcome = runtime.block_on(load.run())?;
                    let cpu = cpu_nanos(family)? - before;
                    ensure!(outcome.requests > 0, "{}: {}", kind.name, outcome.json()?);
                    match sum {
                        Some((outcomes, cpus)) => {
                            outcomes.add(&outcome)?;
                            *cpus += cpu;
                        }
                        None => *sum = Some((outcome, cpu)),
                    }
                }
            }
        }
        for ((kind, server, _, sums), totals) in servers.into_iter().zip(&mut totals) {
            server.program.stop()?;
            for ((sum, total), table) in sums.into_iter().zip(totals).zip(&mut tables) {
                let Some((outcome, cpu)) = sum else { continue };
                let micros = cpu as f64 / 1e3 / outcome.requests as f64;
                let latencies = [0.5, 0.99].map(|quantile| outcome.latency(quantile));
                let [p50, p99] = latencies;
                table.add(kind.name, [micros, outcome.per_second(), p50, p99]);
                match total {
                    Some(total) => total.add(&outcome)?,
                    None => *total = Some(outcome),
                }
            }
        }
    }
    for (kind, totals) in kinds.iter().zip(&totals) {
        for (table, total) in tables.iter_mut().zip(totals.iter().flatten()) {
            let (failures, connections) = (&total.failures, total.connections);
            let remark = format!("{failures} of {connections}");
            table.remark("failed connections", kind.name, remark);
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
