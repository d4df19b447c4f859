//! Ways to do the same that are timed in turns, in this process or in a Python of its own.

use std::time::Duration;

use anyhow::Result;

use super::plan::{Plan, in_turn};
use crate::python::Python;
use crate::running::Program;
use crate::table::Table;

/// A round's turns of each way, and how long about one of them takes.
const TURNS: usize = 4;
const TURN: Duration = Duration::from_millis(10);

type Timed = Box<dyn FnMut(u64) -> Result<Duration>>;

/// Its time for a number of iterations.
pub(super) struct Way {
    name: String,
    timed: Timed,
    iterations: u64,
}

impl Way {
    pub(super) fn new(
        name: String,
        timed: impl FnMut(u64) -> Result<Duration> + 'static,
    ) -> Result<Way> {
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

    /// One of the programs beside this package's sources, which tells how many nanoseconds as many iterations take as
    /// it is asked for.
    pub(super) fn of_python(
        python: &Python,
        name: String,
        program: &str,
        args: &[&str],
    ) -> Result<Way> {
        let mut command = python.program(program);
        command.args(args);
        let mut program = Program::start(&name, command)?;
        Way::new(name, move |iterations| {
            let [nanos] = program.ask(iterations)?;
            Ok(Duration::from_nanos(nanos as u64))
        })
    }
}

/// How long an iteration of each takes in this round, in nanoseconds.
pub(super) fn in_round(ways: &mut [Way], round: usize) -> Result<Vec<f64>> {
    let mut took = vec![Duration::ZERO; ways.len()];
    for turn in 0..TURNS {
        let all: &mut Vec<_> = &mut ways.iter_mut().zip(&mut took).collect();
        for (way, took) in in_turn(all, round + turn) {
            **took += (way.timed)(way.iterations)?;
        }
    }
    let each = |(way, took): (&Way, Duration)| {
        took.as_nanos() as f64 / (way.iterations * TURNS as u64) as f64
    };
    Ok(ways.iter().zip(took).map(each).collect())
}

/// Adds the time of an iteration to `table`, in units of so many nanoseconds.
pub(super) fn rounds(plan: &Plan, table: &mut Table, mut ways: Vec<Way>, unit: f64) -> Result<()> {
    for round in 0..plan.rounds {
        let took = in_round(&mut ways, round)?;
        for (way, nanos) in ways.iter().zip(took) {
            table.add(&way.name, [nanos / unit]);
        }
    }
    Ok(())
}
