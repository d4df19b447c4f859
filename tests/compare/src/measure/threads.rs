//! Contexts entered and left on one thread and on two: what they share makes the difference.

#[path = "../../../../runtime/benches/context/on_threads.rs"]
mod on_threads;

use anyhow::Result;

use super::context::{GUARD, HOOKS, WITH, ways};
use super::plan::Plan;
use super::timing::{Way, in_round};
use crate::table::{Column, Table, compared, told};

const COLUMNS: &[Column] = &[
    compared("CPU, 1 thread, ns"),
    told("CPU, each of 2 threads, ns"),
    told("2 threads / 1"),
];

const LIMITS: &str = "
Of a multi-thread runtime, with the CPU time of a context on each thread: in one task again and again, once in each of many
tasks, and by 64 tasks that are suspended while they have entered it. What limits: the allocator, and what a core's two
threads share where there is but one core.";

/// A row: on one thread and on two.
type Row = (&'static str, [Way; 2]);

fn row<F>(name: &'static str, work: impl Fn(u64) -> F + Copy + Sync + 'static) -> Result<Row>
where
    F: Future<Output = ()> + 'static,
{
    let on = |threads| {
        let runtime = on_threads::runtime();
        Way::new(name.to_owned(), move |iterations| {
            Ok(on_threads::on_each(&runtime, threads, || work(iterations)))
        })
    };
    Ok((name, [on(1)?, on(2)?]))
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    use on_threads::{in_a_loop, in_turn, once_a_task};

    let in_a_loop = vec![
        row(HOOKS, |n| in_a_loop(n, ways::boxed_hooks))?,
        row(GUARD, |n| in_a_loop(n, ways::aioxide_guard))?,
        row(WITH, |n| in_a_loop(n, ways::aioxide_with))?,
    ];
    let once_a_task = vec![
        row(HOOKS, |n| once_a_task(n, ways::boxed_hooks))?,
        row(GUARD, |n| once_a_task(n, ways::aioxide_guard))?,
        row(WITH, |n| once_a_task(n, ways::aioxide_with))?,
    ];
    let in_turn = vec![
        row(HOOKS, |n| in_turn(n, ways::suspended_boxed_hooks))?,
        row(GUARD, |n| in_turn(n, ways::suspended_guard))?,
    ];
    let mut tables = vec![
        table(plan, "in a loop", in_a_loop)?,
        table(plan, "once in each task", once_a_task)?,
        table(plan, "by 64 tasks in turn", in_turn)?,
    ];
    for who in [GUARD, WITH] {
        tables[0].bound_on_ratio(who, HOOKS, 0, 1.8);
    }
    Ok(tables)
}

fn table(plan: &Plan, how: &str, rows: Vec<Row>) -> Result<Table> {
    let title = format!("Context on two threads, {how}");
    let mut table = Table::new(title, HOOKS, COLUMNS, LIMITS);
    let (names, ways): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let mut ways: Vec<Way> = ways.into_iter().flatten().collect();
    for round in 0..plan.rounds {
        let took = in_round(&mut ways, round)?;
        for (name, took) in names.iter().zip(took.chunks(2)) {
            table.add(name, [took[0], took[1], took[1] / took[0]]);
        }
    }
    for name in names.iter().filter(|name| name.starts_with("aioxide")) {
        table.bound_on(name, 2, 1.1);
    }
    Ok(table)
}
