//! Rolling restarts: of many workers at once, of extras, and those that are given up.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aioxide_tests::{
    Ended, Folder, Running, Signal, assert_closed, assert_graceful, connect, pid_in,
};

fn start(program: impl AsRef<Path>, isolation: &str, args: &str, fault: &str) -> Running {
    Running::start(
        Command::new(program.as_ref())
            .args(["--isolation", isolation])
            .args(args.split_whitespace())
            .env("AIOXIDE_FAULT", fault),
    )
}

fn starts(isolation: &str, args: &str) -> Running {
    start(env!("CARGO_BIN_EXE_starts"), isolation, args, "")
}

fn extras(isolation: &str, fault: &str) -> Running {
    start(env!("CARGO_BIN_EXE_extras"), isolation, "", fault)
}

/// Connections that never end by themselves, as many that each worker has one in all likelihood.
fn idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let idle = (0..count).map(|_| {
        let mut stream = connect(address);
        stream
            .read_exact(&mut [0; 5])
            .expect("the server says hello");
        stream
    });
    idle.collect()
}

fn says_hello(address: SocketAddr) {
    connect(address)
        .read_exact(&mut [0; 5])
        .expect("the server says hello");
}

/// Where in the log the first line with this text is.
#[track_caller]
fn position(ended: &Ended, text: &str) -> usize {
    let position = ended.log.iter().position(|line| line.contains(text));
    position.unwrap_or_else(|| panic!("no `{text}`: {:#?}", ended.log))
}

/// Whatever their clients do: each takes until its deadline.
fn a_roll_of_many_workers_takes_one_drain(isolation: &str) {
    let mut server = starts(isolation, "--workers 8 --shutdown-timeout 3000");
    let address = server.wait_until_ready();
    let clients = idle(address, 64);
    let begun = Instant::now();
    server.signal(Signal::HUP);
    server.wait_for("rolling restart done");
    let took = begun.elapsed();
    // One after the other it was more than 21 s.
    assert!(took < Duration::from_secs(9), "took {took:?}");
    says_hello(address);
    drop(clients);
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    for worker in 0..8 {
        let gone = format!("gone worker={worker} generation=0");
        assert!(
            position(&ended, &gone) < position(&ended, "rolling restart done"),
            "{gone}"
        );
        assert_eq!(
            ended
                .lines(&format!("set up worker={worker} generation=1"))
                .count(),
            1
        );
    }
    assert_closed(address);
}

/// A successor starts while fewer predecessors than that drain.
fn as_many_workers_drain_at_once_as_the_overlap_says(isolation: &str) {
    for overlap in [1, 2] {
        let args = format!("--workers 4 --shutdown-timeout 1000 --roll-overlap {overlap}");
        let mut server = starts(isolation, &args);
        let address = server.wait_until_ready();
        let clients = idle(address, 32);
        server.signal(Signal::HUP);
        server.wait_for("rolling restart done");
        drop(clients);
        let ended = server.stop(Signal::TERM);
        assert_graceful(&ended);
        let (mut drain, mut most) = (BTreeSet::new(), 0);
        let done = position(&ended, "rolling restart done");
        for line in &ended.log[..done] {
            let worker = line
                .split("worker=")
                .nth(1)
                .and_then(|rest| rest.chars().next());
            if line.contains("told: rolling restart") {
                drain.insert(worker);
            } else if line.contains("gone worker=") {
                drain.remove(&worker);
            } else if line.contains("set up worker=") && line.contains("generation=1") {
                assert!(drain.len() < overlap, "{overlap}: {:#?}", ended.log);
            }
            most = most.max(drain.len());
        }
        assert_eq!(most, overlap, "{:#?}", ended.log);
        assert_closed(address);
    }
}

/// Its port stays: what connects while there is none of it waits for the next.
fn extras_are_rolled_after_the_workers(isolation: &str) {
    let mut server = extras(isolation, "");
    let line = server.wait_for("metrics: set up");
    let address: SocketAddr = line
        .split("address=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .expect("an address");
    server.wait_for("workers are ready");
    server.signal(Signal::HUP);
    let clients = std::thread::spawn(move || {
        for _ in 0..300 {
            says_hello(address);
            std::thread::yield_now();
        }
    });
    server.wait_for("rolling restart done");
    clients.join().expect("each client is greeted");
    says_hello(address);
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    let set_up: Vec<&str> = ended.lines("metrics: set up").collect();
    assert_eq!(set_up.len(), 2, "{:#?}", ended.log);
    assert!(
        set_up
            .iter()
            .all(|line| line.contains(&format!("address={address}"))),
        "{set_up:#?}"
    );
    assert_eq!(
        pid_in(set_up[0]) != pid_in(set_up[1]),
        isolation == "process"
    );
    let told = [
        "metrics: torn down: rolling restart",
        "router: torn down: rolling restart",
    ];
    let [metrics, router] = told.map(|told| position(&ended, told));
    for worker in 0..2 {
        assert!(
            position(
                &ended,
                &format!(" torn down: rolling restart worker={worker}")
            ) < metrics
        );
    }
    assert!(metrics < router && router < position(&ended, "rolling restart done"));
    assert_closed(address);
}

/// It had to go before its successor came, and comes again as it was.
fn an_extra_whose_successor_fails_comes_again(isolation: &str) {
    let mut server = extras(isolation, "successor");
    server.wait_for("workers are ready");
    server.signal(Signal::HUP);
    server.wait_for("rolling restart given up: the successor of metrics failed to start");
    server.wait_for("metrics: set up");
    server.wait_for("metrics is ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors().len(), 2, "{:#?}", ended.log);
    assert_eq!(ended.lines("router: set up").count(), 1, "{:#?}", ended.log);
}

/// It reads them as it starts, and its siblings have been started before.
fn a_crash_after_a_roll_that_was_given_up_is_told_with_a_warning(isolation: &str) {
    let args = "--on-failure restart --fails-at-start 1 --from-generation 1";
    let mut server = starts(isolation, args);
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    server.wait_for("set up worker=0 generation=1");
    server.wait_for("worker 0 is ready");
    server.signal(Signal::HUP);
    server.wait_for("rolling restart given up: the successor of worker 1");
    server.signal(Signal::USR1);
    server.wait_for("failed: the fixture's error when told");
    server.wait_for("reads its settings anew");
    server.wait_for("worker 0 is ready");
    says_hello(address);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let warnings: Vec<&str> = ended.lines("reads its settings anew").collect();
    assert_eq!(warnings.len(), 1, "{:#?}", ended.log);
    assert!(warnings[0].contains(" WARN "), "{warnings:#?}");
    assert_closed(address);
}

/// A program of the test's own that can be replaced.
fn own_program(folder: &Folder, of: &str) -> std::path::PathBuf {
    let program = folder.file("server");
    shell(&format!("cp {of} {}", program.display()));
    program
}

/// A program that this process wrote itself could be found busy: another test's fork may hold the file.
fn shell(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status();
    assert!(status.is_ok_and(|status| status.success()), "{script}");
}

/// Puts another executable in the program's place: one that does the same and is five bytes longer.
fn replace(program: &Path) {
    shell(&format!(
        "cp {0} {0}.newer; printf newer >> {0}.newer; mv {0}.newer {0}",
        program.display()
    ));
}

/// The size of the executable that the process of this line runs.
fn image(line: &str) -> u64 {
    let exe = format!("/proc/{}/exe", pid_in(line));
    fs::metadata(exe).expect("the process is there").len()
}

#[test]
fn a_worker_that_is_added_runs_what_the_last_complete_roll_brought() {
    let folder = Folder::new();
    let program = own_program(&folder, env!("CARGO_BIN_EXE_starts"));
    let old = fs::metadata(&program).expect("the program is there").len();
    let mut server = start(
        &program,
        "process",
        "--fails-at-start 1 --from-generation 1",
        "",
    );
    let address = server.wait_until_ready();
    replace(&program);
    server.signal(Signal::HUP);
    assert_eq!(
        image(&server.wait_for("set up worker=0 generation=1")),
        old + 5
    );
    server.wait_for("rolling restart given up: the successor of worker 1");
    server.signal(Signal::TTIN);
    assert_eq!(image(&server.wait_for("set up worker=2 generation=0")), old);
    server.wait_for("worker 2 is ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_closed(address);
}

#[test]
fn an_extra_is_rolled_to_the_executable_that_is_then_on_disk() {
    let folder = Folder::new();
    let program = own_program(&folder, env!("CARGO_BIN_EXE_extras"));
    let old = fs::metadata(&program).expect("the program is there").len();
    let mut server = start(&program, "process", "", "");
    assert_eq!(image(&server.wait_until_logged("metrics: set up")), old);
    server.wait_for("workers are ready");
    replace(&program);
    server.signal(Signal::HUP);
    assert_eq!(image(&server.wait_for("metrics: set up")), old + 5);
    // A synchronous extra counts as ready at start.
    server.wait_for_all(&["router: set up", "rolling restart done"]);
    assert_graceful(&server.stop(Signal::TERM));
}

aioxide_tests::under_both_isolations! {
    a_roll_of_many_workers_takes_one_drain,
    as_many_workers_drain_at_once_as_the_overlap_says,
    extras_are_rolled_after_the_workers,
    an_extra_whose_successor_fails_comes_again,
    a_crash_after_a_roll_that_was_given_up_is_told_with_a_warning,
}
