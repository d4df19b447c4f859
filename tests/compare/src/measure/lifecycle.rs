//! How fast servers start and stop.

use anyhow::Result;

use super::plan::{Plan, in_turn};
use crate::kinds::{BARE_PROCESSES, BARE_THREADS, PROCESSES, THREADS, echoing};
use crate::running::Server;
use crate::table::{Column, Table, compared};

const COLUMNS: &[Column] = &[compared("start, ms"), compared("stop, ms")];

const LIMITS: &str = "
Wall time, from the start of the program until all its workers can be reached, and of the idle server from SIGTERM to
its exit. What limits: the kernel's `execve` and exit, the scheduler on few cores, for aiotools the import of Python's
modules, and for actix-server's stop a pause of 300 ms in it.";

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    [1, 2, 4, 8]
        .into_iter()
        .map(|workers| with_workers(plan, workers))
        .collect()
}

fn with_workers(plan: &Plan, workers: usize) -> Result<Table> {
    let plural = if workers == 1 { "" } else { "s" };
    let title = format!("Start and stop, {workers} worker{plural}");
    let mut table = Table::new(title, BARE_PROCESSES.name, COLUMNS, LIMITS);
    let mut kinds = echoing(plan.python.as_ref());
    for round in 0..plan.rounds {
        for kind in in_turn(&mut kinds, round) {
            let server = Server::start(*kind, workers, plan.python.as_ref())?;
            let start = server.start;
            let stop = server.program.stop()?;
            let millis = [start, stop].map(|time| time.as_secs_f64() * 1e3);
            table.add(kind.name, millis);
        }
    }
    for (kind, bare) in [(THREADS, BARE_THREADS), (PROCESSES, BARE_PROCESSES)] {
        let [start, stop] = [0, 1].map(|column| table.spread(bare.name, column).median);
        table.bound_on(kind.name, 0, 1.5 * start + 2.0);
        table.bound_on(kind.name, 1, stop + 5.0);
    }
    Ok(table)
}
