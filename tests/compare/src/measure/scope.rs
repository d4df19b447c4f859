//! A thousand tasks that end at once, and whoever waits for all of them.

#[allow(dead_code, reason = "the benches measure more of them")]
#[path = "../../../../runtime/benches/scope/ways.rs"]
mod ways;

use std::time::Instant;

use anyhow::Result;
use tokio::runtime::Builder;

use super::plan::Plan;
use super::timing::{Way, rounds};
use crate::table::{Column, Table, compared};

const SET: &str = "JoinSet";
const SCOPE: &str = "aioxide scope";

const COLUMNS: &[Column] = &[compared("µs")];

const LIMITS: &str = "
Tasks that do nothing, on a runtime of one thread; a figure is that of all of them. A `JoinSet` ends nobody when a task
fails, and is waited for by nobody when it is dropped; a `TaskTracker` keeps no errors. What limits: the allocator and
the scheduler of the runtime, and for trio and aiotools the interpreter.";

fn way<F>(name: &str, once: impl Fn() -> F + 'static) -> Result<Way>
where
    F: Future<Output = u64> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Way::new(name.to_owned(), move |iterations| {
        let start = Instant::now();
        for _ in 0..iterations {
            // A task of the runtime, as a caller would be.
            runtime.block_on(async { tokio::spawn(once()).await })?;
        }
        Ok(start.elapsed())
    })
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let mut all = vec![
        way(SET, ways::join_set_of_nothing)?,
        way("TaskTracker, CancellationToken", ways::task_tracker)?,
        way(SCOPE, ways::scope_of_nothing)?,
    ];
    if let Some(python) = &plan.python {
        for (name, way) in [
            ("asyncio TaskGroup", "asyncio"),
            ("aiotools TaskScope, asyncio", "aiotools"),
            ("trio nursery", "trio"),
        ] {
            all.push(Way::of_python(python, name.to_owned(), "scope.py", &[way])?);
        }
    }
    let title = format!("Scope of {} tasks", ways::TASKS);
    let mut table = Table::new(title, SET, COLUMNS, LIMITS);
    rounds(plan, &mut table, all, 1e3)?;
    table.bound_on_ratio(SCOPE, SET, 0, 1.2);
    Ok(vec![table])
}
