//! A crate may have names of its own that look like those of the standard library, and like ours.
#![allow(dead_code, non_camel_case_types, unused_macros)]

mod core {}
mod std {}
mod aioxide_private {}

struct Result;
struct Option;
struct Some;
struct None;
struct Server;
struct Isolation;
struct Signal;
struct Duration;
struct Box;
struct Fn;
struct Clone;
struct ExitCode;
struct usize;
struct u32;
fn drop() {}
fn worker() {}
fn yielder() {}
fn argument() {}
macro_rules! panic { () => { compile_error!("not this one") }; }
macro_rules! stringify { () => { compile_error!("not this one") }; }
macro_rules! assert { () => { compile_error!("not this one") }; }

#[aioxide::actxmgr]
async fn database() -> u16 {
    yield_(5432).await;
}

#[aioxide::server(
    workers = worker_count(),
    isolation = thread,
    main = database,
    stop_signals = [SIGTERM],
    shutdown_timeout = 5s,
    start_timeout = seconds(60),
    on_failure = ignore,
    max_restarts = restarts(),
    run_to_completion
)]
async fn echo(worker: aioxide::Worker, main: u16, argument: u8, ready: u8, running: u8) {
    let name = yield_().await;
    let _ = (worker, main, argument, ready, running, name);
}

fn worker_count() -> ::core::primitive::usize {
    2
}

fn restarts() -> ::core::primitive::u32 {
    2
}

fn seconds(n: u64) -> ::core::time::Duration {
    ::core::time::Duration::from_secs(n)
}

fn main() -> ::std::process::ExitCode {
    echo(1, 2, 3).run()
}
