//! CPU per request, requests per second and latencies of servers under load, on persistent and on fresh connections.

use anyhow::{Context as _, Result, ensure};

use super::plan::{Plan, in_turn};
use crate::kinds::Kind;
use crate::load::{Load, Outcome, Protocol};
use crate::processes::cpu_nanos;
use crate::running::Server;
use crate::serve::runtime;
use crate::table::{Column, Table, compared, told};

/// Turns of each server in a round: short, so that what else the machine does meets all of them, and each with new
/// connections, because how evenly these fall on the workers makes a difference.
const TURNS: u32 = 4;

pub(super) const COLUMNS: &[Column] = &[
    compared("server CPU per request, µs"),
    told("requests/s"),
    told("p50, µs"),
    told("p99, µs"),
];

/// A table of persistent connections and one of fresh ones, with the first kind as their base.
pub(super) fn measure(
    plan: &Plan,
    what: &str,
    kinds: &[Kind],
    protocol: Protocol,
    workers: usize,
    limits: &'static str,
) -> Result<[Table; 2]> {
    let plural = if workers == 1 { "" } else { "s" };
    let mut tables = ["persistent", "fresh"].map(|connections| {
        let title = format!("{what} on {connections} connections, {workers} worker{plural}");
        Table::new(title, kinds[0].name, COLUMNS, limits)
    });
    let runtime = runtime()?;
    let mut all = Vec::new();
    for _ in kinds {
        all.push([Outcome::none()?, Outcome::none()?]);
    }
    for round in 0..plan.rounds {
        let mut servers = Vec::new();
        for (kind, all) in kinds.iter().zip(&mut all) {
            let server = Server::start(*kind, workers, plan.python.as_ref())?;
            let family = server.program.family()?;
            servers.push((kind, server, family, all, [const { Vec::new() }; 2]));
        }
        for turn in 0..TURNS as usize {
            for (_, server, family, all, turns) in in_turn(&mut servers, round + turn) {
                for (fresh, (all, turns)) in
                    [false, true].into_iter().zip(all.iter_mut().zip(turns))
                {
                    let load = Load {
                        fresh,
                        ..Load::new(server.address, protocol)
                    };
                    let mut clients = load.clients();
                    let time = plan.time / TURNS;
                    all.add(&runtime.block_on(clients.run(time / 10))?)?;
                    let before = cpu_nanos(family)?;
                    let outcome = runtime.block_on(clients.run(time))?;
                    let cpu = cpu_nanos(family)? - before;
                    all.add(&outcome)?;
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
    for (kind, all) in kinds.iter().zip(all) {
        for (table, all) in tables.iter_mut().zip(all) {
            table.remark("failed connections", kind.name, all.failed_connections());
        }
    }
    Ok(tables)
}

/// Of a round's turns, each with the nanoseconds of its server.
pub(super) fn figures(turns: Vec<(Outcome, u64)>) -> Result<[f64; 4]> {
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
