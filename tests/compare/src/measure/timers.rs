//! Timers: what many of them cost, and whether they drift.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, hint, thread};

use aioxide::{Tick, Timer, timer};
use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::task::TaskTracker;

use super::plan::{Plan, in_turn};
use crate::processes::{cpu_nanos, memory};
use crate::running::{Program, this_program};
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

// As its own process.

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Aioxide,
    Arguments,
    Interval,
    TaskPerTick,
    Sleep,
}

#[derive(Args)]
pub(crate) struct Timers {
    kind: Kind,
    count: usize,
    seconds: f64,
    /// On a runtime of many threads.
    #[arg(long)]
    multi: bool,
}

/// Of all timers, and of the first one of them.
struct Ticks {
    interval: OnceLock<Duration>,
    all: AtomicU64,
    first: OnceLock<Instant>,
    /// Nanoseconds behind the grid.
    behind: AtomicU64,
}

/// Not an argument of the ticks, which are to be empty.
static TICKS: Ticks = Ticks {
    interval: OnceLock::new(),
    all: AtomicU64::new(0),
    first: OnceLock::new(),
    behind: AtomicU64::new(0),
};

impl Ticks {
    fn interval(&self) -> Duration {
        *self.interval.get().expect("set before timers start")
    }

    fn of_all(&self) {
        self.all.fetch_add(1, Relaxed);
    }

    /// `index`: its place on the grid.
    fn of_first(&self, index: u64) {
        let now = Instant::now();
        let due = *self.first.get_or_init(|| now) + self.interval().mul_f64(index as f64);
        let behind = now.saturating_duration_since(due).as_nanos();
        self.behind
            .store(u64::try_from(behind).unwrap_or(u64::MAX), Relaxed);
        self.of_all();
    }

    fn of(&self, is_first: bool, index: u64) {
        match is_first {
            true => self.of_first(index),
            false => self.of_all(),
        }
    }
}

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.all.load(Relaxed),
            self.behind.load(Relaxed)
        )
    }
}

impl Timers {
    /// The second line on stdin starts them; each is answered by the ticks until then.
    pub(crate) fn run(&self) -> Result<()> {
        let interval = Duration::try_from_secs_f64(self.seconds).context("an interval")?;
        TICKS
            .interval
            .set(interval)
            .ok()
            .context("timers run already")?;
        let mut lines = io::stdin().lock().lines();
        let runtime = match self.multi {
            true => Builder::new_multi_thread().enable_time().build()?,
            false => Builder::new_current_thread().enable_time().build()?,
        };
        for _ in 0..2 {
            lines
                .next()
                .context("stdin has ended before they were started")??;
            writeln!(io::stdout(), "{TICKS}")?;
        }
        drop(lines);
        let (ended, end) = oneshot::channel::<()>();
        // Beside the runtime, whose thread has its timers to run.
        let answering = thread::spawn(move || -> io::Result<()> {
            // Held until stdin ends.
            let _ended = ended;
            for line in io::stdin().lock().lines() {
                line?;
                writeln!(io::stdout(), "{TICKS}")?;
            }
            Ok(())
        });
        runtime.block_on(async {
            let _running = self.start(interval);
            // Nothing is sent: it only ever ends.
            let _ = end.await;
        });
        answering
            .join()
            .ok()
            .context("the answering thread panicked")??;
        Ok(())
    }

    /// Whatever keeps them running.
    fn start(&self, interval: Duration) -> (Vec<Timer>, JoinSet<()>) {
        let mut timers = Vec::new();
        let mut tasks = JoinSet::new();
        let argument = Arc::new(());
        for number in 0..self.count {
            let is_first = number == 0;
            match self.kind {
                Kind::Aioxide | Kind::Arguments if is_first => timers.push(first_timer()),
                Kind::Aioxide => timers.push(next_timer()),
                Kind::Arguments => timers.push(with_arguments(interval, Arc::clone(&argument))),
                Kind::Interval => drop(tasks.spawn(interval_loop(interval, is_first))),
                Kind::TaskPerTick => drop(tasks.spawn(task_per_tick(interval, is_first))),
                Kind::Sleep => drop(tasks.spawn(sleep_loop(interval, is_first))),
            }
        }
        (timers, tasks)
    }
}

#[timer(TICKS.interval())]
async fn first_timer(tick: Tick) {
    TICKS.of_first(tick.index());
}

#[timer(TICKS.interval())]
async fn next_timer() {
    TICKS.of_all();
}

#[timer(interval)]
async fn with_arguments(interval: Duration, _argument: Arc<()>) {
    TICKS.of_all();
}

async fn interval_loop(interval: Duration, is_first: bool) {
    let mut due = time::interval(interval);
    for index in 0.. {
        due.tick().await;
        TICKS.of(is_first, index);
    }
}

async fn task_per_tick(interval: Duration, is_first: bool) {
    let tasks = TaskTracker::new();
    let mut due = time::interval(interval);
    for index in 0.. {
        due.tick().await;
        tasks.spawn(async move { TICKS.of(is_first, index) });
    }
}

async fn sleep_loop(interval: Duration, is_first: bool) {
    for index in 0.. {
        TICKS.of(is_first, index);
        time::sleep(interval).await;
    }
}

// As the one that measures.

struct Side {
    name: &'static str,
    how: How,
}

enum How {
    Timers(&'static str, &'static [&'static str]),
    Python(&'static str),
}

const LOOPS: &str = "interval loops";
const AIOXIDE: &str = "aioxide timers";
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
    const fn new(name: &'static str, how: How) -> Side {
        Side { name, how }
    }

    fn start(&self, count: usize, interval: Duration, plan: &Plan) -> Result<Program> {
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
