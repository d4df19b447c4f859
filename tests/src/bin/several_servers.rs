//! A program of two servers, each in a thread of its own, or of one that is run where none may be.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use aioxide::{Isolation, Server, Worker, is_worker};
use aioxide_tests::fixture;
use clap::Parser;
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[arg(long, default_value_t)]
    isolation: Isolation,
    /// Both servers are made of the same function, and get these names.
    #[arg(long)]
    names: Vec<String>,
    /// Which of the two is run on the main thread, where its return ends the program.
    #[arg(long)]
    on_main: Option<usize>,
    /// How much later than the first the second server is run, in milliseconds.
    #[arg(long, default_value_t = 0)]
    later: u64,
    /// The first server's workers run another one: on a thread that is the worker's `pool`, or on one of their `own`.
    #[arg(long)]
    nested: Option<String>,
    /// Only the first server is run, and a worker's process ends with this code.
    #[arg(long)]
    ends_with: Option<u8>,
}

async fn first(worker: Worker) {
    told(worker, "first").await;
}

async fn second(worker: Worker) {
    told(worker, "second").await;
}

async fn same(worker: Worker) {
    told(worker, "same").await;
}

async fn told(worker: Worker, body: &str) {
    let of = match worker.isolation() {
        Isolation::Process => "self",
        _ => "thread-self",
    };
    let comm = std::fs::read_to_string(format!("/proc/{of}/comm")).unwrap_or_default();
    info!(
        index = worker.index(),
        comm = comm.trim_end(),
        is_worker = is_worker(),
        "{body} runs"
    );
    let stop = worker.ready().await;
    info!(index = worker.index(), "{body} stops: {stop}");
}

async fn nests(worker: Worker, on: String) -> Result<(), String> {
    let run = || Server::new(first).workers(1).run();
    let code = match on.as_str() {
        "pool" => tokio::task::spawn_blocking(run)
            .await
            .map_err(|error| error.to_string()),
        _ => {
            thread::spawn(run);
            Err("unknown".to_owned())
        }
    };
    info!("the inner server gave {code:?}");
    worker.ready().await;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    fixture::log();
    info!(is_worker = is_worker(), "main");
    if let Some(on) = options.nested {
        return Server::new(move |worker| nests(worker, on.clone()))
            .workers(1)
            .isolation(options.isolation)
            .run();
    }
    let server = |nth: usize| {
        let server = match (nth, options.names.is_empty()) {
            (0, true) => Server::new(first),
            (_, true) => Server::new(second),
            (_, false) => Server::new(same),
        };
        let server = server.workers(2).isolation(options.isolation);
        match options.names.get(nth) {
            Some(name) if !name.is_empty() => server.name(name),
            _ => server,
        }
    };
    if let Some(code) = options.ends_with {
        let ended = server(0).run();
        return if is_worker() { code.into() } else { ended };
    }
    let (main, other) = match options.on_main {
        Some(1) => (1, 0),
        _ => (0, 1),
    };
    let run = |nth: usize| {
        let server = server(nth);
        let later = if nth == 1 { options.later } else { 0 };
        move || {
            thread::sleep(Duration::from_millis(later));
            server.run()
        }
    };
    let beside = run(other);
    let beside = thread::spawn(beside);
    let code = run(main)();
    if options.on_main.is_some() {
        return code;
    }
    match (code, beside.join()) {
        (ExitCode::SUCCESS, Ok(code)) => code,
        (failure, _) => failure,
    }
}
