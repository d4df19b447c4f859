//! What timers by the calendar cost beside those of an interval.

use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::plan::Plan;
use super::timers::{AIOXIDE, How, LOOPS, Side};
use crate::processes::{cpu_nanos, memory};
use crate::table::{Column, Table, compared, told};

const COUNT: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);
/// In which a program that has nothing to do takes next to no CPU time.
const QUIET: Duration = Duration::from_secs(1);
/// More than the measured minute may be away from the clock's.
const APART: Duration = Duration::from_secs(3);

const CALENDAR: &str = "aioxide timers by the calendar";

const SIDES: [Side; 3] = [
    Side::new(AIOXIDE, How::Timers("aioxide", &[])),
    Side::new(CALENDAR, How::Timers("calendar", &[])),
    Side::new(LOOPS, How::Timers("interval", &[])),
];

const COLUMNS: &[Column] = &[
    compared("CPU per tick, ns"),
    compared("memory per timer, B"),
    told("due ticks that ran, %"),
];

const LIMITS: &str = "
One tick a minute, empty; in a minute in which each kind has one, so that what they do in between counts too. All kinds at once,
each in a process of its own with one thread: those of an interval are due a minute after their start, those of the calendar at
`* * * * *`. What limits: with all of them due together, the caches.";

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let title = format!("{COUNT} timers of a minute");
    let mut table = Table::new(title, AIOXIDE, COLUMNS, LIMITS);
    for _ in 0..plan.few_rounds().div_ceil(2) {
        let mut programs = Vec::new();
        for side in &SIDES {
            let mut program = side.start(COUNT, MINUTE, plan)?;
            let [_, _] = program.ask("ready?")?;
            let before = memory(program.pid(), "Rss")?;
            programs.push((side.name, program, before));
        }
        for (_, program, _) in &mut programs {
            let [_, _] = program.ask("start")?;
        }
        let pids: Vec<u32> = programs
            .iter()
            .map(|(_, program, _)| program.pid())
            .collect();
        until_quiet(&pids)?;
        away_from_the_minute()?;
        let mut begun = Vec::new();
        for (_, program, _) in &mut programs {
            let [ticks, _] = program.ask("ticks?")?;
            begun.push((ticks, cpu_nanos(&[program.pid()])?));
        }
        thread::sleep(MINUTE);
        for ((name, mut program, before), (ticked, cpu)) in programs.into_iter().zip(begun) {
            let cpu = (cpu_nanos(&[program.pid()])? - cpu) as f64;
            let [ticks, _] = program.ask("ticks?")?;
            let ticks = ticks - ticked;
            let bytes = (memory(program.pid(), "Rss")? - before) * 1024.0 / COUNT as f64;
            table.add(name, [cpu / ticks, bytes, 100.0 * ticks / COUNT as f64]);
        }
    }
    table.bound_on_ratio(CALENDAR, AIOXIDE, 0, 1.3);
    Ok(vec![table])
}

/// Until what programs do at their start is done, first ticks included.
fn until_quiet(pids: &[u32]) -> Result<()> {
    let mut before = cpu_nanos(pids)?;
    loop {
        thread::sleep(QUIET);
        let now = cpu_nanos(pids)?;
        if u128::from(now - before) < QUIET.as_nanos() / 200 {
            return Ok(());
        }
        before = now;
    }
}

/// Until the minute from now on neither begins nor ends as the clock's does.
fn away_from_the_minute() -> Result<()> {
    loop {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let since = Duration::from_nanos((since.as_nanos() % MINUTE.as_nanos()) as u64);
        if (APART..MINUTE - APART).contains(&since) {
            return Ok(());
        }
        thread::sleep(QUIET);
    }
}
