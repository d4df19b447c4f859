//! Echo on persistent and on fresh connections, with 1 and with 2 workers.

use anyhow::Result;

use super::plan::Plan;
use super::under_load;
use crate::kinds::{ACTIX, BALANCED, BARE_THREADS, PROCESSES, THREADS, echoing};
use crate::load::Protocol;
use crate::table::Table;

const LIMITS: &str = "
The load generator has one thread and its 64 clients wait for each answer: on a machine with few cores it is what
saturates first, and it takes its core from the workers. So compare CPU per request; requests per second and latencies
are those of both ends together. aiotools' workers read and write streams.";

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for workers in [1, 2] {
        let mut kinds = echoing(plan.python.as_ref());
        if workers == 2 {
            kinds.push(BALANCED);
        }
        let mut both = under_load::measure(plan, "Echo", &kinds, Protocol::Bytes, workers, LIMITS)?;
        if workers == 2 {
            let [persistent, fresh] = &mut both;
            for kind in [THREADS, PROCESSES] {
                persistent.bound_on_ratio(kind.name, BARE_THREADS.name, 0, 1.03);
                persistent.bound_on_ratio(kind.name, ACTIX.name, 0, 1.0);
                fresh.bound_on_ratio(kind.name, ACTIX.name, 0, 0.85);
            }
            fresh.bound_on_ratio(BALANCED.name, THREADS.name, 0, 1.1);
        }
        tables.extend(both);
    }
    // Persistent connections first.
    tables.sort_by_key(|table| table.title.contains("fresh"));
    Ok(tables)
}
