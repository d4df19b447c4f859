//! A worker that tells the supervisor things without end: it has failed, and the others and the clock don't notice.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use aioxide_tests::{Running, Signal};
use rustix::process::Pid;

fn start(isolation: &str, says: &str, args: &str) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_flooding"))
            .args(["--isolation", isolation, "--says", says])
            .args(args.split_whitespace()),
    )
}

/// A line of the kernel's account of a process, in KiB.
fn kib(pid: Pid, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server is there");
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .expect("the kernel tells");
    let number = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok());
    number.expect("a number")
}

/// The most memory from now on is the kernel's to tell.
fn forget_peak(pid: Pid) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak can be reset");
}

const SAID: [&str; 11] = [
    "ready",
    "pong",
    "signalled",
    "blocked",
    "accepted",
    "reported",
    "accepts",
    "takes-turns",
    "single",
    "listen",
    "unlisten",
];

/// What a worker says costs at most 1 MiB, and what it may have in the supervisor: timers, of which each has a name of a KiB
/// here.
#[test]
fn a_worker_that_floods_the_supervisor_has_failed() {
    for says in SAID {
        let mut server = start("process", says, "--on-failure restart");
        server.wait_for("workers are ready");
        forget_peak(server.pid());
        let before = kib(server.pid(), "VmRSS:");
        server.signal(Signal::USR1);
        server.wait_for("floods");
        let flooded = Instant::now();
        server.wait_for("failed: a flood of messages");
        let took = flooded.elapsed();
        assert!(took < Duration::from_secs(5), "{says}: took {took:?}");
        let grown = kib(server.pid(), "VmHWM:").saturating_sub(before);
        let may_have = if says == "single" { 2 * 1024 } else { 0 };
        assert!(grown <= 1024 + may_have, "{says}: {grown} KiB");
        server.wait_until_logged("set up worker=0 generation=1");
        // Its successor is ready by then, or stops as it starts.
        let ended = server.stop(Signal::TERM);
        assert_eq!(ended.code, Some(0), "{says}: {:#?}", ended.log);
        assert_eq!(ended.lines("a flood of messages").count(), 1, "{says}");
        for told in ["worker=0 generation=1", "worker=1 generation=0"] {
            let told = format!("torn down: SIGTERM {told}");
            assert_eq!(ended.lines(&told).count(), 1, "{says}: {:#?}", ended.log);
        }
    }
}

/// Whether it is found out before the deadline, or its worker overruns it.
#[test]
fn a_flood_delays_no_stop() {
    for says in SAID {
        let mut server = start("process", says, "--shutdown-timeout 3000");
        server.wait_for("workers are ready");
        server.signal(Signal::USR1);
        server.wait_for("floods");
        let ended = server.stop(Signal::TERM);
        let told = ended.lines("a flood of messages").count();
        let code = if told == 1 { 1 } else { 3 };
        assert_eq!(ended.code, Some(code), "{says}: {:#?}", ended.log);
        assert!(
            ended.took < Duration::from_millis(3500),
            "{says}: took {:?}",
            ended.took
        );
        assert_eq!(ended.lines("was suspended").count(), 0, "{says}");
    }
}

/// Neither in a process, whose requests are few enough to be answered, nor in a thread, which can't be ended for it.
fn endless_requests_delay_no_deadline(isolation: &str) {
    let mut server = start(isolation, "requests", "--shutdown-timeout 3000");
    server.wait_for("workers are ready");
    server.signal(Signal::USR1);
    server.wait_for("floods");
    let ended = server.stop(Signal::TERM);
    let told = ended.lines("a flood of messages").count();
    assert_eq!(
        ended.code,
        Some(if told == 1 { 1 } else { 3 }),
        "{:#?}",
        ended.log
    );
    assert!(
        ended.took < Duration::from_millis(3500),
        "took {:?}",
        ended.took
    );
    assert_eq!(ended.lines("was suspended").count(), 0, "{:#?}", ended.log);
}

aioxide_tests::under_both_isolations! {
    endless_requests_delay_no_deadline,
}
