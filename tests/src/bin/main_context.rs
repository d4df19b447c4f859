//! A server whose workers get a value from the main context.
//!
//! `AIOXIDE_FAULT` in the environment says what goes wrong with that: `enter`, `leave`, `slow-enter`,
//! `slow-leave`, `block-enter`, `block-leave`, `slow-detached`, `undecodable` or nothing.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use aioxide::{Isolation, Worker, actxmgr, server};
use aioxide_tests::fixture;
use clap::Parser;
use serde::{Deserialize, Serialize};
use tracing::info;

#[derive(Clone, Parser)]
struct Options {
    #[command(flatten)]
    server: fixture::ServerOptions,
    /// Wait for as long before the server is run at all, in milliseconds.
    #[arg(long, default_value_t = 0)]
    before_run: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shared {
    name: String,
    number: u64,
    #[serde(deserialize_with = "sound")]
    sound: bool,
    /// More than one frame's, and more than the control socket takes at once.
    bytes: Vec<u8>,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            name: "a value of the main context's".to_owned(),
            number: u64::MAX,
            sound: !has_fault("undecodable"),
            bytes: (0..500_000_u32).map(|n| n as u8).collect(),
        }
    }
}

fn sound<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match bool::deserialize(deserializer)? {
        true => Ok(true),
        false => Err(serde::de::Error::custom("the fixture's value is unsound")),
    }
}

fn has_fault(fault: &str) -> bool {
    std::env::var("AIOXIDE_FAULT").is_ok_and(|value| value == fault)
}

async fn slow_if(fault: &str) {
    if has_fault(fault) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

/// Not only its context goes no further, but its thread.
fn block_if(fault: &str) {
    if has_fault(fault) {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Its teardown is left to itself.
#[actxmgr]
async fn detached() {
    yield_().await;
    slow_if("slow-detached").await;
}

#[actxmgr]
async fn shared() -> io::Result<Shared> {
    info!("main context: entering");
    if has_fault("enter") {
        return Err(io::Error::other("the fixture's error on entering"));
    }
    slow_if("slow-enter").await;
    block_if("block-enter");
    let (_shared, exit) = yield_(Shared::new()).await;
    info!("main context: left: {exit}");
    slow_if("slow-leave").await;
    block_if("block-leave");
    drop(detached().await);
    if has_fault("leave") {
        return Err(io::Error::other("the fixture's error on leaving"));
    }
    Ok(())
}

#[server(main = shared)]
async fn of_threads(worker: Worker, shared: Shared) {
    check(&worker, &shared);
    let stop = yield_().await;
    info!(worker = worker.index(), "torn down: {stop}");
}

#[server(isolation = process, main = shared)]
async fn of_processes(worker: Worker, shared: Shared) {
    check(&worker, &shared);
    let stop = yield_().await;
    info!(worker = worker.index(), "torn down: {stop}");
}

fn check(worker: &Worker, shared: &Shared) {
    assert_eq!(*shared, Shared::new());
    info!(worker = worker.index(), "has the value");
}

fn main() -> ExitCode {
    let Options {
        server: options,
        before_run,
    } = Options::parse();
    fixture::log();
    std::thread::sleep(Duration::from_millis(before_run));
    let server = match options.isolation {
        Isolation::Thread => of_threads(),
        Isolation::Process => of_processes(),
    };
    options.apply(server).run()
}
