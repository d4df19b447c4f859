//! A server of which the parts take their time to start, fail when they are told, or end by themselves.

use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Worker, actxmgr, server};
use aioxide_tests::fixture;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    /// How many predecessors drain at once.
    #[arg(long)]
    roll_overlap: Option<usize>,
    /// The workers run to their own end.
    #[arg(long)]
    completes: bool,
    /// How long worker 1 takes to get ready, or with `--completes` to end, in milliseconds.
    #[arg(long, default_value_t = 0)]
    slow: u64,
    /// Worker 0 fails when it has been ready, in its first generation: after so many milliseconds.
    #[arg(long)]
    fails_after: Option<u64>,
    /// Workers of this index and above, and of this generation and above, fail before they are ready.
    #[arg(long)]
    fails_at_start: Option<usize>,
    #[arg(long, default_value_t = 0)]
    from_generation: u64,
    /// The worker of this index hangs at its end, in the destructor of a thread-local value.
    #[arg(long)]
    exit_handler: Option<usize>,
    /// A worker that ends leaves a task that never does.
    #[arg(long)]
    task: bool,
    /// Workers don't stop when they are told.
    #[arg(long)]
    stays: bool,
    /// Workers don't drain: what handles connections is cut when they end.
    #[arg(long)]
    no_drain: bool,
    /// How long the teardown of a connection takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    teardown: u64,
}

/// Hangs when it is dropped, as the thread ends.
struct Hanging;

impl Drop for Hanging {
    fn drop(&mut self) {
        info!("hangs at its end");
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

thread_local!(static EXIT_HANDLER: Hanging = const { Hanging });

async fn sleep(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[actxmgr]
async fn connection(worker: usize, teardown: u64) {
    yield_().await;
    sleep(teardown).await;
    info!(worker, "connection torn down");
}

/// Says hello, and waits until its client is gone.
async fn hold(mut stream: TcpStream, worker: usize, teardown: u64) -> std::io::Result<()> {
    let _connection = connection(worker, teardown).await;
    stream.write_all(b"hello").await?;
    stream.read(&mut [0]).await.map(drop)
}

#[server]
async fn starts(worker: Worker, options: Options) -> Result<(), String> {
    let (index, generation) = (worker.index(), worker.generation());
    info!(
        worker = index,
        generation,
        count = worker.count(),
        pid = std::process::id(),
        "set up"
    );
    let mut reloads = worker.reloads();
    let fails = options.fails_at_start.is_some_and(|from| index >= from);
    if fails && generation >= options.from_generation {
        return Err("the fixture's error at its start".to_owned());
    }
    if index == 1 && generation == 0 && !options.completes {
        sleep(options.slow).await;
    }
    let teardown = options.teardown;
    let listener = worker
        .listen("127.0.0.1:0")
        .await
        .map_err(|error| error.to_string())?;
    let serving = worker.serve(listener, move |stream| hold(stream, index, teardown));
    let fails_after = options
        .fails_after
        .filter(|_| (index, generation) == (0, 0));
    let fails = async {
        match fails_after {
            Some(millis) => sleep(millis).await,
            None => std::future::pending().await,
        }
    };
    let stop = tokio::select! {
        stop = yield_() => stop,
        () = fails => return Err("the fixture's error".to_owned()),
        Some(()) = reloads.recv(), if index == 0 => return Err("the fixture's error when told".to_owned()),
    };
    if options.completes {
        if let Some(millis) = fails_after {
            sleep(millis).await;
            return Err("the fixture's error".to_owned());
        }
        if index == 1 {
            sleep(options.slow).await;
        }
        info!(worker = index, "completed");
    }
    info!(worker = index, generation, "told: {stop}");
    if options.exit_handler == Some(index) {
        EXIT_HANDLER.with(|_| ());
    }
    if options.stays {
        std::future::pending::<()>().await;
    }
    if options.task {
        worker.tasks().spawn(std::future::pending::<()>());
    }
    match options.no_drain {
        true => drop(serving),
        false if options.completes => drop(serving),
        false => drop(serving.drain(&stop).await),
    }
    info!(worker = index, generation, "gone");
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    let server = options.server.clone().apply(starts(options.clone()));
    let server = server.run_to_completion(options.completes);
    match options.roll_overlap {
        Some(workers) => server.roll_overlap(workers).run(),
        None => server.run(),
    }
}
