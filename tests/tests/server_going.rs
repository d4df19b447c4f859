//! A server that is to stop serves on for its `drain_delay`.

use std::process::Command;
use std::time::{Duration, Instant};

use aioxide_tests::{Running, Signal, connect, outlast_repeated_signals};
use rustix::process::kill_process;

fn plain(isolation: &str, args: &str) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plain"));
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace());
    Running::start(&mut command)
}

#[track_caller]
fn assert_graceful(server: Running) {
    let ended = server.wait();
    aioxide_tests::assert_graceful(&ended);
}

/// Both workers have been told, and not to stop.
fn wait_until_going(server: &mut Running) {
    let told = |worker| format!("going worker={worker} before=false after=true stopping=false");
    let told = [told(0), told(1)];
    server.wait_for("everything is still served, and the stop begins in");
    server.wait_for_all(&[&told[0], &told[1]]);
}

fn a_going_server_serves_on_until_its_delay_is_over(isolation: &str) {
    let mut server = plain(isolation, "--drain-delay 1500");
    let address = server.wait_until_ready();
    let asked = Instant::now();
    server.signal(Signal::TERM);
    wait_until_going(&mut server);
    connect(address);
    server.wait_for("stopping: SIGTERM; all is to end within 18.5s");
    assert!(asked.elapsed() >= Duration::from_millis(1500));
    assert_graceful(server);
}

fn a_second_signal_ends_the_delay_and_a_third_forces(isolation: &str) {
    let mut server = plain(isolation, "--drain-delay 15000 --slow-stop 15000");
    server.wait_until_ready();
    let asked = Instant::now();
    // As GNU `timeout` does.
    server.signal(Signal::TERM);
    server.signal(Signal::TERM);
    wait_until_going(&mut server);
    outlast_repeated_signals();
    server.signal(Signal::TERM);
    server.wait_for("stopping: SIGTERM");
    outlast_repeated_signals();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code, Some(143));
    assert!(asked.elapsed() < Duration::from_secs(15));
}

/// As systemd does with `KillMode=control-group`.
fn signals_of_workers_are_swallowed_and_reloads_refused(isolation: &str) {
    let mut server = plain(isolation, "--drain-delay 15000");
    server.wait_until_ready();
    server.signal(Signal::TERM);
    wait_until_going(&mut server);
    for worker in server.children() {
        kill_process(worker, Signal::TERM).expect("the worker is there");
    }
    server.signal(Signal::HUP);
    server.wait_for("rolling restart refused: the server is about to stop");
    outlast_repeated_signals();
    server.signal(Signal::TERM);
    let ended = server.wait();
    assert_eq!((ended.code, ended.errors()), (Some(0), Vec::new()));
    assert_eq!(ended.lines("set up").count(), 2, "{:#?}", ended.log);
}

fn a_delay_that_is_not_less_than_the_timeout_is_refused(isolation: &str) {
    let ended = plain(isolation, "--drain-delay 20000").wait();
    assert_eq!(ended.code, Some(1));
    let told = "`drain_delay` is 20s, and `shutdown_timeout`, of which it is a part, 20s; the delay must be less";
    assert_eq!(ended.lines(told).count(), 1, "{:#?}", ended.log);
}

aioxide_tests::under_both_isolations!(
    a_going_server_serves_on_until_its_delay_is_over,
    a_second_signal_ends_the_delay_and_a_third_forces,
    signals_of_workers_are_swallowed_and_reloads_refused,
    a_delay_that_is_not_less_than_the_timeout_is_refused,
);
