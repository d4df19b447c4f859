//! Contexts entered and left; their hooks never suspend.

#[allow(dead_code, reason = "the benches measure more of them")]
#[path = "../../../../runtime/benches/context/ways.rs"]
pub(super) mod ways;

use std::io;

use anyhow::Result;

use super::plan::Plan;
use super::timing::{Way, rounds};
use crate::python::Python;
use crate::table::{Column, Table, compared};

pub(super) const HOOKS: &str = "boxed async-trait hooks";
pub(super) const GUARD: &str = "aioxide guard";
pub(super) const WITH: &str = "aioxide with";
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
    Way::of_python(python, name, "context.py", &[event_loop, what])
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
