//! A server with a timer that one worker at a time runs. A tick holds a lock that excludes every other, and tells when it
//! was due.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aioxide::{Delivery, ExitStack, Missed, Overlap, Tick, Timer, Worker, actxmgr, server};
use aioxide_tests::fixture;
use clap::Parser;
use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info};

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    /// The file that is locked.
    #[arg(long)]
    lock: PathBuf,
    /// In milliseconds.
    #[arg(long, default_value_t = 50)]
    interval: u64,
    /// Each second of the calendar instead.
    #[arg(long)]
    calendar: bool,
    /// How long a tick takes, in milliseconds.
    #[arg(long, default_value_t = 5)]
    length: u64,
    /// A due time whose tick was cut runs again.
    #[arg(long)]
    at_least_once: bool,
    /// Worker 0 lets another one run the timer first.
    #[arg(long)]
    zero_waits: bool,
    /// The timer is left running when its worker is told to stop.
    #[arg(long)]
    leaves_it: bool,
    /// How long a tick keeps its lock in a teardown after its end, in milliseconds.
    #[arg(long, default_value_t = 0)]
    parting: u64,
    /// The timer is started on a thread for blocking work.
    #[arg(long)]
    blocking: bool,
}

/// Gives the lock back late, in a teardown that only the end of its tick waits for.
#[actxmgr]
async fn kept(lock: File, parting: Duration) {
    yield_().await;
    sleep(parting).await;
    drop(lock);
}

async fn tick(tick: Tick, options: Options, who: String, mine: Arc<AtomicBool>) {
    mine.store(true, Ordering::Relaxed);
    let due = tick.scheduled_at().duration_since(UNIX_EPOCH);
    let due = due.unwrap_or_default().as_millis();
    let token = tick.token().map_or(0, |token| token.get());
    let mut lock = File::options()
        .append(true)
        .open(&options.lock)
        .expect("the test has made it");
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        error!("two at once: {who} due={due}");
    }
    lock.write_all(b".").expect("it can be written");
    let mut parting = ExitStack::new();
    if options.parting > 0 {
        parting.push(kept(lock, Duration::from_millis(options.parting)).await);
    }
    info!("start due={due} token={token} {who}");
    sleep(Duration::from_millis(options.length)).await;
    info!("end due={due} {who}");
}

fn start(worker: &Worker, options: &Options) -> (Timer, Arc<AtomicBool>) {
    let timer = match options.calendar {
        true => Timer::calendar("* * * * * *", "UTC").expect("both are right"),
        false => Timer::every(Duration::from_millis(options.interval)),
    };
    let (index, generation) = (worker.index(), worker.generation());
    let who = format!(
        "worker={index} generation={generation} pid={}",
        std::process::id()
    );
    let mine = Arc::<AtomicBool>::default();
    let timer = timer
        .single()
        .name("sweep")
        .overlap(Overlap::Queue(1000))
        .missed(Missed::Burst(1000));
    let timer = match options.at_least_once {
        true => timer.delivery(Delivery::AtLeastOnce),
        false => timer,
    };
    let (options, ran) = (options.clone(), mine.clone());
    let timer = timer.start(move |at| tick(at, options.clone(), who.clone(), ran.clone()));
    (timer, mine)
}

#[server]
async fn singles(worker: Worker, options: Options) -> Result<(), String> {
    if options.zero_waits && worker.index() == 0 && worker.generation() == 0 {
        while options.lock.metadata().is_ok_and(|file| file.len() == 0) {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let (timer, mine) = match options.blocking {
        true => {
            let (worker, options) = (worker.clone(), options.clone());
            let started = spawn_blocking(move || start(&worker, &options));
            started.await.map_err(|error| error.to_string())?
        }
        false => start(&worker, &options),
    };
    let mut reloads = worker.reloads();
    let stop = yield_();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(()) = reloads.recv() => {
                if mine.load(Ordering::Relaxed) && worker.generation() == 0 {
                    return Err("told to fail".to_owned());
                }
            }
        }
    }
    match options.leaves_it {
        true => timer.detach(),
        false => timer.stop().await,
    }
    info!(
        "gone worker={} generation={}",
        worker.index(),
        worker.generation()
    );
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    options.server.clone().apply(singles(options)).run()
}
