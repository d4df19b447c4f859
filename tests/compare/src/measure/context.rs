//! Contexts entered and left; their hooks never suspend.

#[allow(dead_code, reason = "the benches measure more of them")]
#[path = "../../../../runtime/benches/context/ways.rs"]
mod ways;

use std::io;
use std::time::Duration;

use anyhow::Result;

use super::plan::{Plan, in_turn};
use crate::python::Python;
use crate::running::Program;
use crate::table::{Column, Table, compared};

/// A round's turns of each way, and how long about one of them takes.
const TURNS: usize = 4;
const TURN: Duration = Duration::from_millis(10);

const HOOKS: &str = "boxed async-trait hooks";
const GUARD: &str = "aioxide guard";
const WITH: &str = "aioxide with";
const JOINED: &str = "join_all of boxed hooks";
const GROUP: &str = "aioxide group";

const ONE: &[Column] = &[compared("ns")];
const MANY: &[Column] = &[compared("µs")];

const LIMITS_ONE: &str = "
Hooks that never suspend show what the way itself costs; a setup that waits for I/O takes far longer. With the
hand-written way, the boxed hooks and the stream, a caller that is cancelled loses the teardown. What limits: the
allocator, for the task the scheduler of its runtime, and for aiotools the interpreter.";

const LIMITS_MANY: &str = "
All of them are entered together and left together; a figure is that of the whole group. What limits: the allocator,
`FuturesUnordered` in both of the first, and for aiotools a task for each member.";

type Timed = Box<dyn FnMut(u64) -> Result<Duration>>;

struct Way {
    name: String,
    timed: Timed,
    iterations: u64,
}

fn way<F>(name: &str, once: impl Fn(u64) -> F + 'static) -> Result<Way>
where
    F: Future<Output = io::Result<()>>,
{
    let runtime = ways::runtime();
    Way::new(name.to_owned(), move |iterations| {
        Ok(ways::timed(&runtime, iterations, &once))
    })
}

fn aiotools(python: &Python, event_loop: &str, what: &str) -> Result<Way> {
    let name = format!("aiotools, {event_loop}");
    let mut command = python.program("context.py");
    command.args([event_loop, what]);
    let mut program = Program::start(&name, command)?;
    Way::new(name, move |iterations| {
        let [nanos] = program.ask(iterations)?;
        Ok(Duration::from_nanos(nanos as u64))
    })
}

impl Way {
    fn new(name: String, timed: impl FnMut(u64) -> Result<Duration> + 'static) -> Result<Way> {
        let mut timed: Timed = Box::new(timed);
        let mut iterations = 1;
        while timed(iterations)? < TURN / 2 {
            iterations *= 2;
        }
        Ok(Way {
            name,
            timed,
            iterations,
        })
    }
}

fn rounds(plan: &Plan, table: &mut Table, mut ways: Vec<Way>, unit: f64) -> Result<()> {
    for round in 0..plan.rounds {
        let mut took = vec![Duration::ZERO; ways.len()];
        for turn in 0..TURNS {
            let all: &mut Vec<_> = &mut ways.iter_mut().zip(&mut took).collect();
            for (way, took) in in_turn(all, round + turn) {
                **took += (way.timed)(way.iterations)?;
            }
        }
        for (way, took) in ways.iter().zip(took) {
            let each = took.as_nanos() as f64 / (way.iterations * TURNS as u64) as f64;
            table.add(&way.name, [each / unit]);
        }
    }
    Ok(())
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let mut one = vec![
        way("hand-written", ways::hand_written)?,
        way("async-stream, boxed", ways::one_yield_stream)?,
        way(HOOKS, ways::boxed_hooks)?,
        way(GUARD, ways::aioxide_guard)?,
        way(WITH, ways::aioxide_with)?,
        way("guarden", ways::guarden_guard)?,
        way("a task per context", ways::task_per_context)?,
    ];
    let mut many = vec![
        way(JOINED, ways::join_all_of_boxed_hooks)?,
        way(GROUP, ways::aioxide_group)?,
    ];
    if let Some(python) = &plan.python {
        for event_loop in ["asyncio", "uvloop"] {
            one.push(aiotools(python, event_loop, "one")?);
            many.push(aiotools(python, event_loop, "group")?);
        }
    }
    let mut entered = Table::new("Context, enter and exit", HOOKS, ONE, LIMITS_ONE);
    rounds(plan, &mut entered, one, 1.0)?;
    entered.bound_on_ratio(GUARD, HOOKS, 0, 2.0);
    entered.bound_on_ratio(WITH, HOOKS, 0, 2.0);

    let title = format!("Group of {}, enter and exit", ways::MEMBERS);
    let mut grouped = Table::new(title, JOINED, MANY, LIMITS_MANY);
    rounds(plan, &mut grouped, many, 1e3)?;
    grouped.bound_on_ratio(GROUP, JOINED, 0, 2.0);
    Ok(vec![entered, grouped])
}
