//! The timers that are this program: aioxide's, and what is written by hand.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use aioxide::{Tick, Timer, timer};
use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::task::TaskTracker;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Aioxide,
    Arguments,
    Interval,
    TaskPerTick,
    Sleep,
    /// Due each minute, whatever the interval.
    Calendar,
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
                Kind::Calendar => timers.push(by_the_calendar()),
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

#[timer(cron = "* * * * *", zone = "UTC")]
async fn by_the_calendar() {
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
