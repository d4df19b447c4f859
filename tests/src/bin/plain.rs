//! A server that tells what happens to it, and does nothing else.

use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Exit, Serving, Worker, actxmgr, server, worker_index};
use aioxide_tests::fixture;
use clap::Parser;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    #[arg(long, default_value_t = fixture::address().to_string())]
    listen: String,
    /// How long a worker takes to get ready, in milliseconds.
    #[arg(long, default_value_t = 0)]
    slow_start: u64,
    /// How long a worker takes to stop, in milliseconds.
    #[arg(long, default_value_t = 0)]
    slow_stop: u64,
    /// Worker 0 starts this shell command, with the stdin and the environment that it has itself.
    #[arg(long)]
    grandchild: Option<String>,
    /// How long a task takes that each worker leaves when it is asked to stop, in milliseconds.
    #[arg(long)]
    task: Option<u64>,
    /// As `task`, but one of the worker's scope.
    #[arg(long)]
    task_in_scope: Option<u64>,
    /// A task of worker 0's scope fails as soon as SIGUSR1 comes.
    #[arg(long)]
    failing_task: bool,
    /// When each worker fails: `start`, just before it would listen, or `stop`, at its end.
    #[arg(long)]
    fails: Option<String>,
    /// The workers run to their own end.
    #[arg(long)]
    completes: bool,
    /// A task of each worker goes through the SIGUSR1 in a loop.
    #[arg(long)]
    counts_reloads: bool,
    /// Each worker drops its listener when SIGUSR1 comes, and listens again at the next.
    #[arg(long)]
    relistens: bool,
    /// Wait for as long before the server is run at all, in milliseconds.
    #[arg(long, default_value_t = 0)]
    before_run: u64,
}

#[actxmgr]
async fn resource(worker: usize) {
    let exit = yield_().await;
    info!(worker, "torn down: {exit}");
}

#[server(init = init)]
async fn plain(worker: Worker, options: Options) -> Result<(), String> {
    let (index, generation, count) = (worker.index(), worker.generation(), worker.count());
    info!(
        worker = index,
        generation,
        count,
        pid = std::process::id(),
        "set up"
    );
    let resource = resource(index).await;
    if let Some(script) = options.grandchild.as_ref().filter(|_| index == 0) {
        let mut shell = tokio::process::Command::new("sh");
        shell
            .args(["-c", script])
            .stdin(std::process::Stdio::inherit());
        shell.status().await.map_err(|error| error.to_string())?;
    }
    tokio::time::sleep(Duration::from_millis(options.slow_start)).await;
    let fails = |when| options.fails.as_deref() == Some(when);
    if fails("start") {
        return Err("its own mistake".to_owned());
    }
    let (listening, address) = serve(&worker, &options.listen).await?;
    let mut serving = Some(listening);
    if options.counts_reloads {
        let mut reloads = worker.reloads();
        worker.tasks().spawn_local(async move {
            let mut reloaded = 0;
            while let Some(()) = reloads.recv().await {
                reloaded += 1;
            }
            info!(reloaded, "no more reloads");
        });
    }
    if options.failing_task && (index, generation) == (0, 0) {
        let mut reloads = worker.reloads();
        worker.scope().spawn_local(async move {
            let _resource = self::resource(index).await;
            reloads.recv().await;
            Err::<(), _>("the mistake of a task".into())
        });
    }
    let handle = worker.clone();
    let before = handle.is_going();
    tokio::task::spawn_local(async move {
        handle.going().await;
        let (after, stopping) = (handle.is_going(), handle.is_stopping());
        info!(worker = index, before, after, stopping, "going");
    });
    let mut reloads = worker.reloads();
    let mut ready = std::pin::pin!(yield_());
    let stop = loop {
        tokio::select! {
            stop = &mut ready => break stop,
            Some(()) = reloads.recv() => {
                let elsewhere = tokio::task::spawn_blocking(worker_index).await;
                info!(worker = index, here = ?worker_index(), ?elsewhere, "told");
                if options.relistens {
                    serving = match serving.take() {
                        Some(serving) => {
                            drop(serving);
                            info!(worker = index, "listens no more");
                            None
                        }
                        None => Some(serve(&worker, &address).await?.0),
                    };
                }
            }
        }
    };
    if let Some(time) = options.task {
        worker.tasks().spawn(async move {
            tokio::time::sleep(Duration::from_millis(time)).await;
            info!(worker = index, "the task is done");
        });
    }
    if let Some(time) = options.task_in_scope {
        worker.scope().spawn_named("lasting", async move {
            let _resource = self::resource(index).await;
            tokio::time::sleep(Duration::from_millis(time)).await;
            info!(worker = index, "the task is done");
        });
    }
    tokio::time::sleep(Duration::from_millis(options.slow_stop)).await;
    if let Some(serving) = serving {
        serving.drain(&stop).await;
    }
    resource.exit_with(Exit::Stopped(stop)).await;
    if fails("stop") {
        return Err("its own mistake".to_owned());
    }
    Ok(())
}

/// Accepts connections, and closes them. Also where that is.
async fn serve(worker: &Worker, address: &str) -> Result<(Serving, String), String> {
    let listener = match address.strip_prefix("named:") {
        Some(name) => worker.listen_named(name).await,
        None => worker.listen(address).await,
    };
    let listener = listener.map_err(|error| format!("{error} ({:?})", error.kind()))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let serving = worker.serve(listener, async |stream| drop(stream));
    Ok((serving, address.to_string()))
}

fn init() {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let index = worker_index();
    info!(pid = std::process::id(), threads, ?index, "init");
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    std::thread::sleep(Duration::from_millis(options.before_run));
    let (server, completes) = (options.server.clone(), options.completes);
    let server = server.apply(plain(options));
    server.run_to_completion(completes).run()
}
