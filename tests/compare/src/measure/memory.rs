//! What workers hold, idle, just after the start.

use anyhow::Result;

use super::plan::{Plan, in_turn};
use crate::kinds::{BARE_THREADS, Kind, PROCESSES, echoing};
use crate::processes::memory;
use crate::running::Server;
use crate::stats::Spread;
use crate::table::{Column, Table, compared, told};

const FEW: usize = 1;
const MANY: usize = 5;

const COLUMNS: &[Column] = &[
    compared("one more worker, Private_Dirty, KiB"),
    compared("one more worker, Pss, KiB"),
    told("whole server of 1 worker, Pss, KiB"),
];

const LIMITS: &str = "
From `smaps_rollup`, over all processes of a server: one more worker is the difference between 5 workers and 1, by 4.
Pss shares a page out among the processes that have it. Pages come in 4 KiB, the allocator's arenas and stacks by what
was touched; under load a worker holds its connections beside this. aiotools' workers are started in the way that Python's
`multiprocessing` has as its default.";

/// The bound on a worker process' own memory, in KiB.
const PRIVATE: f64 = 1024.0;

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let mut table = Table::new("Memory", BARE_THREADS.name, COLUMNS, LIMITS);
    let mut kinds = echoing(plan.python.as_ref());
    for round in 0..plan.few_rounds() {
        for kind in in_turn(&mut kinds, round) {
            let kind = *kind;
            let [few, many] = [FEW, MANY].map(|workers| of(plan, kind, workers));
            let (few, many) = (few?, many?);
            let more = |name: usize| (many[name] - few[name]) / (MANY - FEW) as f64;
            table.add(kind.name, [more(0), more(1), few[1]]);
        }
    }
    for ballast in [0, 1024] {
        let options = ["--ballast", &ballast.to_string()];
        let server = Server::start_with(PROCESSES, 2, None, &options)?;
        let workers = &server.program.family()?[1..];
        let dirty: Result<Vec<f64>> = workers.iter().map(|pid| memory(*pid, DIRTY)).collect();
        let claim =
            format!("Private_Dirty of a worker process, KiB, the supervisor holding {ballast} MiB");
        table.bound(claim, Spread::of(&dirty?), PRIVATE);
        server.program.stop()?;
    }
    Ok(vec![table])
}

const DIRTY: &str = "Private_Dirty";

/// Private_Dirty and Pss of all its processes.
fn of(plan: &Plan, kind: Kind, workers: usize) -> Result<[f64; 2]> {
    let server = Server::start(kind, workers, plan.python.as_ref())?;
    let mut sums = [0.0; 2];
    for pid in server.program.family()? {
        for (sum, name) in sums.iter_mut().zip([DIRTY, "Pss"]) {
            *sum += memory(pid, name)?;
        }
    }
    server.program.stop()?;
    Ok(sums)
}
