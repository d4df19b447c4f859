//! What a failure does, from the first start to the exit code.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use aioxide_tests::{Ended, Running, Signal, assert_closed, connect};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

fn start(isolation: &str, args: &str) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_starts"))
            .args(["--isolation", isolation])
            .args(args.split_whitespace()),
    )
}

fn extras(isolation: &str, fault: &str, args: &str) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_extras"))
            .args(["--isolation", isolation])
            .args(args.split_whitespace())
            .env("AIOXIDE_FAULT", fault),
    )
}

#[track_caller]
fn assert_ended(ended: &Ended, code: i32, errors: &[&str]) {
    assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
    let told = ended.errors();
    let all = errors.len() == told.len()
        && errors
            .iter()
            .all(|error| told.iter().any(|line| line.contains(error)));
    assert!(all, "{errors:?} in {told:#?} of {:#?}", ended.log);
}

/// Where in the log the first line with this text is.
#[track_caller]
fn position(ended: &Ended, text: &str) -> usize {
    let position = ended.log.iter().position(|line| line.contains(text));
    position.unwrap_or_else(|| panic!("no `{text}`: {:#?}", ended.log))
}

/// Connections that are handled, as many that either worker has one in all likelihood.
fn held(address: SocketAddr) -> Vec<TcpStream> {
    let held = (0..16).map(|_| {
        let mut stream = connect(address);
        stream
            .read_exact(&mut [0; 5])
            .expect("the server says hello");
        stream
    });
    held.collect()
}

/// While worker 1 is still starting.
fn a_failure_counts_from_the_moment_a_worker_was_ready(isolation: &str) {
    let args = "--slow 2000 --fails-after 200";
    let mut server = start(isolation, &format!("{args} --on-failure restart"));
    server.wait_for("worker 0 is started again in");
    server.wait_for("set up worker=0 generation=1");
    let address = server.wait_until_ready();
    drop(held(address));
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, &["failed: the fixture's error"]);
    assert!(
        position(&ended, "set up worker=0 generation=1") < position(&ended, "worker 1 is ready")
    );
    assert_closed(address);

    let mut server = start(isolation, &format!("{args} --on-failure ignore"));
    server.wait_for("the server goes on without worker 0");
    server.wait_for("1 worker is ready");
    assert_ended(
        &server.stop(Signal::TERM),
        0,
        &["failed: the fixture's error"],
    );

    let ended = start(isolation, &format!("{args} --on-failure shutdown")).wait();
    assert_ended(&ended, 1, &["failed: the fixture's error"]);
}

fn a_worker_that_fails_to_start_ends_the_server_unless_it_is_ignored(isolation: &str) {
    for on_failure in ["shutdown", "restart"] {
        let ended = start(
            isolation,
            &format!("--fails-at-start 1 --on-failure {on_failure}"),
        )
        .wait();
        assert_ended(&ended, 1, &["worker 1 (pid "]);
    }
    let mut server = start(isolation, "--fails-at-start 1 --on-failure ignore");
    server.wait_for("the server goes on without worker 1");
    let address = address_of_one(&mut server);
    drop(held(address));
    assert_ended(&server.stop(Signal::TERM), 0, &["worker 1 (pid "]);
    assert_closed(address);

    let ended = start(isolation, "--fails-at-start 0 --on-failure ignore").wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
}

fn address_of_one(server: &mut Running) -> SocketAddr {
    aioxide_tests::address_in(&server.wait_for("1 worker is ready, listening on"))
}

fn a_worker_that_cannot_be_added_changes_nothing(isolation: &str) {
    for on_failure in ["shutdown", "restart", "ignore"] {
        let mut server = start(
            isolation,
            &format!("--fails-at-start 2 --on-failure {on_failure}"),
        );
        let address = server.wait_until_ready();
        for _ in 0..2 {
            server.signal(Signal::TTIN);
            server.wait_for(
                "worker 2 is not added, because it failed to start: the number of workers is 2",
            );
        }
        drop(held(address));
        let ended = server.stop(Signal::TERM);
        let failed = "worker 2 (pid ";
        assert_ended(
            &ended,
            0,
            &[
                failed,
                "worker 2 is not added",
                failed,
                "worker 2 is not added",
            ],
        );
        assert_eq!(
            ended.lines("set up worker=2").count(),
            2,
            "{:#?}",
            ended.log
        );
        assert_eq!(ended.lines("gone worker=").count(), 2, "{:#?}", ended.log);
        assert_closed(address);
    }
}

#[test]
fn a_supervisor_without_descriptors_adds_no_worker_and_goes_on() {
    let mut server = start("process", "");
    let address = server.wait_until_ready();
    let limit = |current| {
        let limits = Rlimit {
            current,
            ..getrlimit(Resource::Nofile)
        };
        prlimit(Some(server.pid()), Resource::Nofile, limits).expect("a limit can be set");
    };
    limit(Some(3));
    server.signal(Signal::TTIN);
    server.wait_for("worker 2 is not added");
    drop(held(address));
    let limits = getrlimit(Resource::Nofile);
    prlimit(Some(server.pid()), Resource::Nofile, limits).expect("a limit can be set");
    server.signal(Signal::TTIN);
    server.wait_for("worker 2 is ready");
    assert_ended(
        &server.stop(Signal::TERM),
        0,
        &["open files", "worker 2 is not added"],
    );
    assert_closed(address);
}

fn a_failure_does_not_cut_the_completion_of_others(isolation: &str) {
    let args = "--completes --workers 3 --slow 1500 --fails-after 100 --shutdown-timeout 500";
    for (on_failure, code) in [
        ("shutdown", 1),
        ("restart --max-restarts 0", 4),
        ("ignore", 0),
    ] {
        let ended = start(isolation, &format!("{args} --on-failure {on_failure}")).wait();
        assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
        let failed = position(&ended, "failed: the fixture's error");
        assert!(failed < position(&ended, "completed worker=1"));
        assert_eq!(
            ended.lines("completed worker=").count(),
            2,
            "{:#?}",
            ended.log
        );
    }
    let ended = start(isolation, &format!("{args} --on-failure restart")).wait();
    assert_ended(&ended, 0, &["failed: the fixture's error"]);
    assert_eq!(
        ended.lines("completed worker=").count(),
        3,
        "{:#?}",
        ended.log
    );
}

fn extras_are_ready_before_the_workers_start(isolation: &str) {
    let mut server = extras(isolation, "slow-start", "");
    server.wait_for("workers are ready");
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, &[]);
    assert!(position(&ended, "metrics is ready") < position(&ended, " set up worker="));

    let ended = extras(isolation, "start", "").wait();
    assert_ended(&ended, 1, &["failed: the fixture's error at its start"]);
    assert_eq!(
        ended.lines(" set up worker=").count(),
        0,
        "{:#?}",
        ended.log
    );

    let mut server = extras(isolation, "start", "--on-failure ignore");
    server.wait_for("the server goes on without metrics");
    server.wait_for("workers are ready");
    assert_ended(
        &server.stop(Signal::TERM),
        0,
        &["failed: the fixture's error at its start"],
    );
}

fn an_extra_that_returns_has_ended_and_not_failed(isolation: &str) {
    for on_failure in ["shutdown", "restart"] {
        // The synchronous one does so at once, which is no failure to start either.
        for (fault, ended_one, other) in [
            ("ends", "metrics", "router"),
            ("router-ends", "router", "metrics"),
        ] {
            let mut server = extras(isolation, fault, &format!("--on-failure {on_failure}"));
            server.wait_for("workers are ready");
            if fault == "ends" {
                server.signal(Signal::USR1);
            }
            server.wait_until_logged(&format!("{ended_one} has ended"));
            server.signal(Signal::HUP);
            server.wait_for("rolling restart done");
            let ended = server.stop(Signal::TERM);
            assert_ended(&ended, 0, &[]);
            let starts = |name| ended.lines(&format!("{name}: set up")).count();
            assert_eq!(starts(ended_one), 1, "{:#?}", ended.log);
            assert_eq!(starts(other), 2, "{:#?}", ended.log);
        }
    }
}

/// 3 is for a timeout alone.
fn a_failure_keeps_its_code_when_connections_are_cut(isolation: &str) {
    let args = "--shutdown-timeout 1000";
    for (on_failure, code) in [("shutdown", 1), ("restart --max-restarts 0", 4)] {
        let mut server = start(isolation, &format!("{args} --on-failure {on_failure}"));
        let address = server.wait_until_ready();
        let held = held(address);
        server.signal(Signal::USR1);
        server.wait_for("connections cut at the deadline");
        let ended = server.wait();
        assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
        drop(held);
        assert_closed(address);
    }
    let mut server = start(isolation, args);
    let address = server.wait_until_ready();
    let held = held(address);
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 3, &[]);
    drop(held);
    assert_closed(address);
}

/// A process is bounded by the shutdown timeout, though nobody has asked it to stop; a thread has told its end before.
fn exit_handlers_that_hang_hold_up_no_end(isolation: &str) {
    let args = "--completes --exit-handler 0 --shutdown-timeout 1000";
    let ended = start(isolation, args).wait();
    assert_eq!(
        ended.lines("hangs at its end").count(),
        1,
        "{:#?}",
        ended.log
    );
    assert_eq!(
        ended.lines("completed worker=").count(),
        2,
        "{:#?}",
        ended.log
    );
    assert!(
        ended.took < Duration::from_secs(15),
        "took {:?}",
        ended.took
    );
    let code = if isolation == "process" { 1 } else { 0 };
    assert_eq!(ended.code, Some(code), "{:#?}", ended.log);

    let mut server = extras(
        isolation,
        "exit-handler",
        "--shutdown-timeout 1000 --on-failure ignore",
    );
    server.wait_for("workers are ready");
    server.signal(Signal::USR1);
    let gone = match isolation {
        "process" => "the server goes on without metrics",
        _ => "metrics has ended",
    };
    server.wait_for_all(&["hangs at its end", gone]);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// Handlers that the worker leaves are cut while there is time for the teardowns of what they hold.
fn connections_are_cut_before_teardowns_are_waited_for(isolation: &str) {
    let mut server = start(isolation, "--no-drain --teardown 400");
    let address = server.wait_until_ready();
    let held = held(address);
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, &[]);
    assert_eq!(
        ended.lines("connection torn down").count(),
        held.len(),
        "{:#?}",
        ended.log
    );
    assert_closed(address);
}

/// Those of a thread: a process that is killed has no time for it.
#[test]
fn connections_of_a_worker_that_is_killed_are_torn_down() {
    let mut server = start("thread", "--stays --teardown 100 --shutdown-timeout 1000");
    let address = server.wait_until_ready();
    let held = held(address);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(
        ended.lines("connection torn down").count(),
        held.len(),
        "{:#?}",
        ended.log
    );
    assert_closed(address);
}

/// Nobody asks a worker to stop that runs to completion.
fn tasks_that_a_completed_worker_leaves_are_cut(isolation: &str) {
    let ended = start(isolation, "--completes --task --shutdown-timeout 1000").wait();
    assert_ended(&ended, 0, &[]);
    assert_eq!(
        ended.lines("tasks cut at the deadline").count(),
        2,
        "{:#?}",
        ended.log
    );
    assert!(
        ended.took < Duration::from_secs(15),
        "took {:?}",
        ended.took
    );
}

aioxide_tests::under_both_isolations! {
    tasks_that_a_completed_worker_leaves_are_cut,
    a_failure_counts_from_the_moment_a_worker_was_ready,
    a_worker_that_fails_to_start_ends_the_server_unless_it_is_ignored,
    a_worker_that_cannot_be_added_changes_nothing,
    a_failure_does_not_cut_the_completion_of_others,
    extras_are_ready_before_the_workers_start,
    an_extra_that_returns_has_ended_and_not_failed,
    a_failure_keeps_its_code_when_connections_are_cut,
    exit_handlers_that_hang_hold_up_no_end,
    connections_are_cut_before_teardowns_are_waited_for,
}
