//! What timers cost beside hand-written loops around `tokio::time::interval`, and whether they drift.
//!
//! `cargo bench -p aioxide --bench timer [-- cost | drift]`. Each measurement is a process of its own, so
//! that none inherits another's heap; the two sides take turns.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, fs, hint, thread};

use aioxide::{Timer, timer};
use tokio::runtime::{Builder, Runtime};

const INTERVAL: Duration = Duration::from_millis(100);
const MEASURED: Duration = Duration::from_secs(3);
const RUNS: usize = 5;
const SIZES: [usize; 3] = [1, 1_000, 10_000];

const DRIFT_INTERVAL: Duration = Duration::from_millis(10);
const DRIFT_TICKS: u64 = 1_000;

#[timer(100ms)]
async fn tick(ticks: Arc<AtomicU64>) {
    ticks.fetch_add(1, Relaxed);
}

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["one", side, flavor, count] => {
            one(side, flavor, count.parse().expect("a number of timers"))
        }
        ["cost"] => cost(),
        ["drift"] => drift(),
        _ => {
            cost();
            drift();
        }
    }
}

fn runtime(flavor: &str) -> Runtime {
    let mut builder = match flavor {
        "current" => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_time().build().expect("a runtime")
}

/// Nanoseconds that the threads of this process have been running.
fn cpu_nanos() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .expect("VmRSS in KiB")
}

/// One measurement; prints CPU ns per tick, bytes per timer and how many of a hundred due ticks ran.
fn one(side: &str, flavor: &str, count: usize) {
    let ticks = Arc::new(AtomicU64::new(0));
    runtime(flavor).block_on(async {
        let before = resident_kib();
        let mut timers = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..count {
            let ticks = ticks.clone();
            match side {
                "timer" => timers.push(tick(ticks)),
                _ => tasks.push(tokio::spawn(async move {
                    let mut interval = tokio::time::interval(INTERVAL);
                    loop {
                        interval.tick().await;
                        ticks.fetch_add(1, Relaxed);
                    }
                })),
            }
        }
        tokio::time::sleep(INTERVAL * 3).await;
        let (cpu, ticked) = (cpu_nanos(), ticks.load(Relaxed));
        tokio::time::sleep(MEASURED).await;
        let (cpu, ticked) = (cpu_nanos() - cpu, ticks.load(Relaxed) - ticked);
        let bytes = (resident_kib() - before) * 1024 / count as u64;
        let due = MEASURED.as_millis() / INTERVAL.as_millis() * count as u128;
        let ran = 100.0 * ticked as f64 / due as f64;
        println!("{} {bytes} {ran}", cpu as f64 / ticked as f64);
        drop((timers, tasks));
    });
}

fn measure(side: &str, flavor: &str, count: usize) -> [f64; 3] {
    let output = Command::new(env::current_exe().expect("this program"))
        .args(["one", side, flavor, &count.to_string()])
        .output()
        .expect("this program runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    numbers.try_into().expect("three numbers")
}

/// The median of each column.
fn medians(runs: &[[f64; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|column| {
        let mut values: Vec<f64> = runs.iter().map(|run| run[column]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

fn cost() {
    println!(
        "CPU per tick, memory per timer, due ticks that ran; {INTERVAL:?} timers, median of {RUNS}"
    );
    println!(" runtime  timers | loop ns   timer ratio | loop B  timer ratio | loop % timer");
    for flavor in ["current", "multi"] {
        for count in SIZES {
            let (mut loops, mut timers) = (Vec::new(), Vec::new());
            for _ in 0..RUNS {
                loops.push(measure("loop", flavor, count));
                timers.push(measure("timer", flavor, count));
            }
            let [loop_ns, loop_bytes, loop_ran] = medians(&loops);
            let [ns, bytes, ran] = medians(&timers);
            println!(
                "{flavor:>8} {count:>7} | {loop_ns:>7.0} {ns:>7.0} {:>5.2} | {loop_bytes:>6.0} {bytes:>6.0} {:>5.2} | {loop_ran:>6.1} {ran:>5.1}",
                ns / loop_ns,
                bytes / loop_bytes,
            );
        }
    }
}

/// How late the last of many ticks is, while all other cores are busy.
fn drift() {
    let over = Arc::new(AtomicBool::new(false));
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let busy: Vec<_> = (1..cores.max(2))
        .map(|_| {
            let over = over.clone();
            thread::spawn(move || {
                while !over.load(Relaxed) {
                    hint::spin_loop();
                }
            })
        })
        .collect();

    let aiotools = start_aiotools();
    let runtime = runtime("multi");
    let due = DRIFT_INTERVAL * (DRIFT_TICKS as u32 - 1);
    let (timer, sleeps) = runtime.block_on(async {
        let sleeps = tokio::spawn(async {
            let start = Instant::now();
            for _ in 1..DRIFT_TICKS {
                tokio::time::sleep(DRIFT_INTERVAL).await;
            }
            start.elapsed()
        });
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut sender = Some(sender);
        let start = Instant::now();
        let timer = Timer::every(DRIFT_INTERVAL).start(move |tick| {
            if tick.index() + 1 >= DRIFT_TICKS {
                if let Some(sender) = sender.take() {
                    // The receiver waits below.
                    let due = DRIFT_INTERVAL * tick.index() as u32;
                    let _ = sender.send(start.elapsed().saturating_sub(due));
                }
            }
            async {}
        });
        let last = receiver.await.expect("the last tick");
        timer.stop().await;
        (last, sleeps.await.expect("the sleep loop"))
    });
    let aiotools = aiotools.map(|python| {
        let output = python.wait_with_output().expect("Python ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let seconds = text.trim().parse().expect("the seconds that aiotools took");
        Duration::from_secs_f64(seconds)
    });
    over.store(true, Relaxed);
    for busy in busy {
        busy.join().expect("a busy loop");
    }
    println!(
        "drift after {DRIFT_TICKS} ticks of {DRIFT_INTERVAL:?}, {} busy cores",
        cores.max(2) - 1
    );
    println!("  timer      {timer:>8.1?}, behind its grid point");
    println!("  sleep loop {:>8.1?}", sleeps.saturating_sub(due));
    match aiotools {
        Some(took) => println!("  aiotools   {:>8.1?}", took.saturating_sub(due)),
        None => println!("  aiotools   not measured: it can't be installed here"),
    }
    assert!(timer < DRIFT_INTERVAL, "the timer has drifted");
}

/// The same ticks by aiotools' `create_timer`, in a folder of its own below the target folder.
fn start_aiotools() -> Option<process::Child> {
    const TICKS: &str = "
import asyncio, sys, time, aiotools

async def main(ticks, interval):
    last = asyncio.get_running_loop().create_future()
    start = time.monotonic()
    count = 0

    async def tick(_):
        nonlocal count
        count += 1
        if count == ticks:
            last.set_result(time.monotonic() - start)

    timer = aiotools.create_timer(tick, interval)
    print(await last)
    timer.cancel()

asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
";
    // aiotools needs `typing_extensions` and doesn't say so.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aiotools");
    let python = folder.join("bin/python");
    let runs = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let installed = runs(
        Command::new(&python)
            .args(["-c", "import aiotools"])
            .stderr(Stdio::null()),
    ) || runs(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    ) && runs(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "aiotools",
        "typing_extensions",
    ]));
    installed.then(|| {
        Command::new(&python)
            .args(["-c", TICKS])
            .args([
                DRIFT_TICKS.to_string(),
                DRIFT_INTERVAL.as_secs_f64().to_string(),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts")
    })
}
