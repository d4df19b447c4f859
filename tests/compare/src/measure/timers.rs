//! Timers: what many of them cost, and whether they drift.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{hint, thread};

use anyhow::{Context as _, Result};

use super::plan::{Plan, in_turn};
use crate::kinds::this_program;
use crate::processes::{cpu_nanos, memory};
use crate::running::Program;
use crate::table::{Column, Table, compared, told};

const SIZES: [usize; 3] = [1, 1_000, 10_000];
const INTERVAL: Duration = Duration::from_millis(100);

const DRIFT_INTERVAL: Duration = Duration::from_millis(10);
const DRIFT_TICKS: u32 = 1_000;

const COST: &[Column] = &[
    compared("CPU per tick, ns"),
    told("CPU, % of a core"),
    compared("memory per timer, B"),
    told("due ticks that ran, %"),
    told("last tick behind the grid, ms"),
];
/// Less than a page is no figure.
const COST_OF_ONE: &[Column] = &[COST[0], COST[1], COST[3], COST[4]];
const DRIFT: &[Column] = &[told("last tick behind the grid, ms"), told("ticks")];

const LIMITS_COST: &str = "
Timers of 100 ms with an empty tick, each kind in a process of its own; those with arguments take two, an `Arc` among them,
of which each tick gets clones as it always does. Memory is the growth of the resident set, which
comes in pages of 4 KiB; that of a single timer is left out. What limits: one timer costs what it takes the kernel to
wake an idle process, and its figure spreads with whatever else that core does; 10,000 that were started together are
due together, and the last of them waits for the others' ticks. aiotools makes a task of each tick, and counts its
interval from the start of the tick before, so that what ran may be fewer than what was due.";

const LIMITS_DRIFT: &str = "
1,000 ticks of 10 ms, all kinds at once, all cores but one busy. The place on the grid is that of the first tick and as
many intervals as ticks have been. What limits: the 1 ms of tokio's timers, and the scheduler.";

pub(super) struct Side {
    pub(super) name: &'static str,
    how: How,
}

pub(super) enum How {
    Timers(&'static str, &'static [&'static str]),
    Python(&'static str),
}

pub(super) const LOOPS: &str = "interval loops";
pub(super) const AIOXIDE: &str = "aioxide timers";
const WITH_ARGUMENTS: &str = "aioxide timers with arguments";
const MULTI: &[&str] = &["--multi"];

const CURRENT_THREAD: [Side; 3] = [
    Side::new(LOOPS, How::Timers("interval", &[])),
    Side::new(AIOXIDE, How::Timers("aioxide", &[])),
    Side::new("a task per tick", How::Timers("task-per-tick", &[])),
];
const MULTI_THREAD: [Side; 2] = [
    Side::new(LOOPS, How::Timers("interval", MULTI)),
    Side::new(AIOXIDE, How::Timers("aioxide", MULTI)),
];
const ARGUMENTS: [Side; 2] = [
    Side::new(WITH_ARGUMENTS, How::Timers("arguments", &[])),
    Side::new(WITH_ARGUMENTS, How::Timers("arguments", MULTI)),
];
const SLEEP: Side = Side::new("a loop of sleeps", How::Timers("sleep", &[]));
const AIOTOOLS: [Side; 2] = [
    Side::new("aiotools, asyncio", How::Python("asyncio")),
    Side::new("aiotools, uvloop", How::Python("uvloop")),
];

impl Side {
    pub(super) const fn new(name: &'static str, how: How) -> Side {
        Side { name, how }
    }

    pub(super) fn start(&self, count: usize, interval: Duration, plan: &Plan) -> Result<Program> {
        let mut command = match self.how {
            How::Timers(kind, options) => {
                let mut command = this_program()?;
                command.args(["timers", kind]).args(options);
                command
            }
            How::Python(event_loop) => {
                let python = plan.python.as_ref().context("aiotools needs Python")?;
                let mut command = python.program("timers.py");
                command.arg(event_loop);
                command
            }
        };
        command.args([count.to_string(), interval.as_secs_f64().to_string()]);
        Program::start(self.name, command)
    }
}

/// A round's figures of one side.
fn cost(side: &Side, count: usize, plan: &Plan) -> Result<[f64; 5]> {
    let mut program = side.start(count, INTERVAL, plan)?;
    let pid = program.pid();
    // Answered after all that a program does before it starts its timers.
    let [_, _] = program.ask("ready?")?;
    let before = memory(pid, "Rss")?;
    let [_, _] = program.ask("start")?;
    thread::sleep(INTERVAL * 3);
    let [ticked, _] = program.ask("ticks?")?;
    let (cpu, start) = (cpu_nanos(&[pid])?, Instant::now());
    thread::sleep(plan.time * 4);
    let cpu = (cpu_nanos(&[pid])? - cpu) as f64;
    let took = start.elapsed().as_secs_f64();
    let [ticks, behind] = program.ask("ticks?")?;
    let ticked = ticks - ticked;
    let bytes = (memory(pid, "Rss")? - before) * 1024.0 / count as f64;
    let due = took / INTERVAL.as_secs_f64() * count as f64;
    Ok([
        cpu / ticked,
        100.0 * cpu / 1e9 / took,
        bytes,
        100.0 * ticked / due,
        behind / 1e6,
    ])
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for count in SIZES {
        let plural = if count == 1 { "" } else { "s" };
        let mut current: Vec<&Side> = CURRENT_THREAD.iter().collect();
        let mut multi: Vec<&Side> = MULTI_THREAD.iter().collect();
        if count > 1 {
            current.push(&ARGUMENTS[0]);
            multi.push(&ARGUMENTS[1]);
        }
        current.extend(plan.python.iter().flat_map(|_| &AIOTOOLS));
        for (flavour, mut sides) in [("one thread", current), ("many threads", multi)] {
            let title = format!("{count} timer{plural} of {INTERVAL:?}, {flavour}");
            let columns = if count == 1 { COST_OF_ONE } else { COST };
            let mut table = Table::new(title, LOOPS, columns, LIMITS_COST);
            for round in 0..plan.few_rounds() {
                for side in in_turn(&mut sides, round) {
                    let [cpu, share, bytes, ran, behind] = cost(side, count, plan)?;
                    match count {
                        1 => table.add(side.name, [cpu, share, ran, behind]),
                        _ => table.add(side.name, [cpu, share, bytes, ran, behind]),
                    }
                }
            }
            let cpu = if count < 10_000 { 1.2 } else { 1.3 };
            table.bound_on_ratio(AIOXIDE, LOOPS, 0, cpu);
            if count > 1 {
                table.bound_on_ratio(AIOXIDE, LOOPS, 2, 1.75);
            }
            tables.push(table);
        }
    }
    tables.push(drift(plan)?);
    Ok(tables)
}

fn drift(plan: &Plan) -> Result<Table> {
    let title = format!("Drift after {DRIFT_TICKS} ticks of {DRIFT_INTERVAL:?}");
    let mut table = Table::new(title, LOOPS, DRIFT, LIMITS_DRIFT);
    let mut sides: Vec<&Side> = CURRENT_THREAD.iter().collect();
    sides.push(&SLEEP);
    sides.extend(plan.python.iter().flat_map(|_| &AIOTOOLS));
    for _ in 0..plan.few_rounds().div_ceil(2) {
        let programs: Result<Vec<_>> = sides
            .iter()
            .map(|side| Ok((side.name, side.start(1, DRIFT_INTERVAL, plan)?)))
            .collect();
        let mut programs = programs?;
        for (_, program) in &mut programs {
            let [_, _] = program.ask("ready?")?;
        }
        let _busy = Busy::start();
        for (_, program) in &mut programs {
            let [_, _] = program.ask("start")?;
        }
        thread::sleep(DRIFT_INTERVAL * DRIFT_TICKS);
        for (name, program) in &mut programs {
            let [ticks, behind] = program.ask("ticks?")?;
            table.add(name, [behind / 1e6, ticks]);
        }
    }
    let interval = DRIFT_INTERVAL.as_secs_f64() * 1e3;
    table.bound_on(AIOXIDE, 0, interval);
    Ok(table)
}

/// All cores but one, until it is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start() -> Busy {
        let over = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(2, usize::from);
        for _ in 1..cores.max(2) {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        Busy(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
