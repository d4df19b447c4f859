//! A worker that goes wrong: in each way, at each moment of its life.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::{
    Ended, Folder, PATIENCE, Running, Signal, address_in, assert_closed, connect,
    outlast_repeated_signals, pid_in,
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, prlimit};

fn start(program: impl AsRef<Path>, isolation: &str, args: &str) -> Running {
    Running::start(
        Command::new(program.as_ref())
            .args(["--isolation", isolation])
            .args(args.split_whitespace()),
    )
}

fn faulty(isolation: &str, args: &str) -> Running {
    start(env!("CARGO_BIN_EXE_faulty"), isolation, args)
}

fn serves(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"hello").expect("the server reads");
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).expect("the server replies");
}

/// Waits until there is a single listening socket on this port.
fn wait_until_one_listens(address: SocketAddr) {
    let port = format!(":{:04X}", address.port());
    let listens = |line: &&str| {
        let mut fields = line.split_whitespace();
        // LISTEN, as the kernel writes it.
        fields.nth(1).is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sockets = fs::read_to_string("/proc/net/tcp").expect("the kernel lists sockets");
        match sockets.lines().filter(listens).count() {
            1 => return,
            others => assert!(Instant::now() < deadline, "{others} listen on {address}"),
        }
        thread::yield_now();
    }
}

/// How a worker's failure is to be told, and how a server with it is to end.
struct Fault {
    name: &'static str,
    /// `None` for one that just goes no further: what is told then depends on when it does so.
    cause: Option<&'static str>,
    /// How a worker that could tell leaves its own context.
    torn_down: Option<&'static str>,
    /// Beside the times that decide when it is noticed.
    args: &'static str,
    /// The exit code when worker 0 goes wrong so while it drains.
    draining: i32,
}

const GOES_NO_FURTHER: &str = "--start-timeout 2000 --shutdown-timeout 2000 --hang-timeout 2000";

/// What only a process can survive the others of.
const OF_PROCESSES: [Fault; 3] = [
    Fault {
        name: "kill",
        cause: Some("killed by SIGKILL"),
        torn_down: None,
        args: "",
        draining: 1,
    },
    Fault {
        name: "abort",
        cause: Some("killed by SIGABRT"),
        torn_down: None,
        args: "",
        draining: 1,
    },
    Fault {
        name: "stop",
        cause: None,
        torn_down: None,
        args: GOES_NO_FURTHER,
        draining: 3,
    },
];

const OF_BOTH: [Fault; 3] = [
    Fault {
        name: "panic",
        cause: Some("panicked: the fixture's panic"),
        torn_down: Some("panicked"),
        args: "",
        draining: 1,
    },
    Fault {
        name: "error",
        cause: Some("the fixture's error"),
        torn_down: Some("cancelled"),
        args: "",
        draining: 1,
    },
    Fault {
        name: "block",
        cause: None,
        torn_down: None,
        args: GOES_NO_FURTHER,
        draining: 3,
    },
];

/// What a worker was about when it went wrong.
#[derive(Clone, Copy)]
enum When {
    Starting,
    Ready,
    Draining,
}

impl Fault {
    /// Whether nothing but the end of the whole process ends it.
    fn is_stuck(&self, isolation: &str) -> bool {
        self.name == "block" && isolation == "thread"
    }

    /// The log tells once that worker 0 of this generation failed so, and of no failure else than of those that
    /// are `expected` beside.
    #[track_caller]
    fn assert_told(
        &self,
        ended: &Ended,
        isolation: &str,
        when: When,
        generation: u64,
        expected: &[&str],
    ) {
        let set_up = format!("set up worker=0 generation={generation} ");
        let set_up = ended.lines(&set_up).next();
        let pid = pid_in(set_up.unwrap_or_else(|| panic!("not set up: {:#?}", ended.log)));
        let failed = format!("worker 0 (pid {pid}) failed: ");

        // How each line begins, and what follows.
        let mut told = Vec::new();
        if self.cause.is_none() {
            told.push(match when {
                When::Starting => ("worker 0 was not ready within", "2s"),
                // That is a failure of a process only.
                When::Ready if self.is_stuck(isolation) => {
                    ("the event loop of worker 0 has been blocked for", "")
                }
                When::Ready => ("worker 0 hangs: its event loop has been blocked for", "2s"),
                When::Draining => ("worker 0 did not stop by its deadline", ""),
            });
        }
        match self.cause {
            Some(cause) => told.push((&failed, cause)),
            None if isolation == "process" => told.push((&failed, "killed by SIGKILL")),
            None => told.push(("worker 0 is stuck", "(1 so far)")),
        }
        let mut errors = ended.errors();
        for (begins, follows) in told {
            let before = errors.len();
            errors.retain(|line| !(line.contains(begins) && line.contains(follows)));
            assert_eq!(
                errors.len() + 1,
                before,
                "{} in `{begins}..{follows}`: {:#?}",
                self.name,
                ended.log
            );
        }
        errors.retain(|line| !expected.iter().any(|expected| line.contains(expected)));
        errors.retain(|line| !(self.name == "panic" && line.contains("panicked at")));
        assert!(errors.is_empty(), "{errors:#?}: {:#?}", ended.log);

        if let Some(how) = self.torn_down {
            let torn_down = format!("torn down: {how} worker=0 generation={generation}");
            assert_eq!(
                ended.lines(&torn_down).count(),
                1,
                "{torn_down}: {:#?}",
                ended.log
            );
        }
    }
}

fn faults(isolation: &str) -> impl Iterator<Item = &'static Fault> {
    let processes = OF_PROCESSES.iter().filter(move |_| isolation == "process");
    OF_BOTH.iter().chain(processes)
}

#[track_caller]
fn assert_ended(ended: &Ended, code: i32, cause: &str) {
    assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
    let told = ended.errors().iter().any(|line| line.contains(cause));
    assert!(told, "no `{cause}`: {:#?}", ended.log);
}

/// Each of these workers was told why it had to stop.
#[track_caller]
fn assert_torn_down(ended: &Ended, worker: usize, generation: u64, why: &str) {
    let teardown = format!("torn down: stopped: {why} worker={worker} generation={generation}");
    assert_eq!(
        ended.lines(&teardown).count(),
        1,
        "{teardown}: {:#?}",
        ended.log
    );
}

fn starting(isolation: &str) {
    for fault in faults(isolation) {
        let (name, args) = (fault.name, fault.args);
        let args = format!("--fault {name} --at starting --when-told {args}");
        let mut server = faulty(isolation, &args);
        let address = address_in(&server.wait_for("listens on"));
        server.wait_until_logged("worker 1 is ready");
        server.wait_until_logged("set up worker=0");
        server.signal(Signal::USR1);
        let ended = server.wait();
        assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
        fault.assert_told(&ended, isolation, When::Starting, 0, &[]);
        assert_torn_down(&ended, 1, 0, "a worker failed");
        assert_closed(address);
    }
}

/// That is the user's code, so the supervisor has no part in it.
fn arguments_are_cloned_where_the_worker_runs(isolation: &str) {
    let ended = faulty(isolation, "--fault panic --at cloning").wait();
    assert_ended(&ended, 1, "failed: panicked: the fixture's panic");

    let args = "--workers 1 --fault block --at cloning --start-timeout 500";
    let ended = faulty(isolation, args).wait();
    assert_ended(&ended, 1, "worker 0 was not ready within 500ms");
}

fn ready(isolation: &str) {
    for fault in faults(isolation) {
        let name = fault.name;
        let mut server = faulty(isolation, &format!("--fault {name} {}", fault.args));
        let address = server.wait_until_ready();
        server.signal(Signal::USR1);
        if fault.is_stuck(isolation) {
            // Told, and left alone as long as the server runs.
            server.wait_for("the event loop of worker 0 has been blocked for");
            let ended = server.stop(Signal::TERM);
            assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
            let expected = ["worker 0 did not stop by its deadline"];
            fault.assert_told(&ended, isolation, When::Ready, 0, &expected);
            assert_torn_down(&ended, 1, 0, "SIGTERM");
            assert_closed(address);
            continue;
        }
        let ended = server.wait();
        assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
        fault.assert_told(&ended, isolation, When::Ready, 0, &[]);
        assert_torn_down(&ended, 1, 0, "a worker failed");
        assert_closed(address);
    }
}

fn draining(isolation: &str) {
    for fault in faults(isolation) {
        let name = fault.name;
        let mut server = faulty(
            isolation,
            &format!("--fault {name} --at draining {}", fault.args),
        );
        let address = server.wait_until_ready();
        let ended = server.stop(Signal::TERM);
        assert_eq!(ended.code, Some(fault.draining), "{:#?}", ended.log);
        fault.assert_told(&ended, isolation, When::Draining, 0, &[]);
        assert_torn_down(&ended, 1, 0, "SIGTERM");
        assert_closed(address);
    }
}

/// The roll is given up, and what ran before goes on.
fn successor_in_a_roll(isolation: &str) {
    for fault in faults(isolation) {
        let name = fault.name;
        let mut server = faulty(
            isolation,
            &format!("--fault {name} --at starting --generation 1 {}", fault.args),
        );
        let address = server.wait_until_ready();
        server.signal(Signal::HUP);
        server.wait_for("rolling restart given up: the successor of worker 0 failed to start");
        serves(address);
        let ended = server.stop(Signal::TERM);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        let given_up = ["rolling restart given up"];
        fault.assert_told(&ended, isolation, When::Starting, 1, &given_up);
        assert_torn_down(&ended, 0, 0, "SIGTERM");
        assert_torn_down(&ended, 1, 0, "SIGTERM");
        assert_closed(address);
    }
}

/// With processes some now run what was found on disk, and some what they ran before.
fn a_roll_that_is_given_up_half_way(isolation: &str) {
    let mut server = faulty(
        isolation,
        "--fault error --at starting --worker 1 --generation 1",
    );
    let address = server.wait_until_ready();
    server.signal(Signal::HUP);
    let given_up = server.wait_for("rolling restart given up: the successor of worker 1");
    assert_eq!(
        given_up.contains("workers now run different versions"),
        isolation == "process",
        "{given_up}"
    );
    serves(address);
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, "failed: the fixture's error");
    assert_torn_down(&ended, 0, 1, "SIGTERM");
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

/// The roll goes on, because its successor serves already.
fn predecessor_in_a_roll(isolation: &str) {
    for fault in faults(isolation) {
        let name = fault.name;
        let mut server = faulty(
            isolation,
            &format!("--fault {name} --at draining {}", fault.args),
        );
        let address = server.wait_until_ready();
        server.signal(Signal::HUP);
        server.wait_for("rolling restart done");
        serves(address);
        let ended = server.stop(Signal::TERM);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        fault.assert_told(&ended, isolation, When::Draining, 0, &[]);
        assert_torn_down(&ended, 0, 1, "SIGTERM");
        assert_torn_down(&ended, 1, 0, "rolling restart");
        assert_torn_down(&ended, 1, 1, "SIGTERM");
        assert_closed(address);
    }
}

/// With `on_failure = restart`, worker 0 has a successor, and the exit is graceful.
fn ready_and_restarted(isolation: &str) {
    for fault in faults(isolation) {
        let name = fault.name;
        if fault.is_stuck(isolation) {
            continue;
        }
        let mut server = faulty(
            isolation,
            &format!("--on-failure restart --fault {name} {}", fault.args),
        );
        let address = server.wait_until_ready();
        server.signal(Signal::USR1);
        server.wait_for("set up worker=0 generation=1");
        server.wait_for("worker 0 is ready");
        serves(address);
        let ended = server.stop(Signal::TERM);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        fault.assert_told(&ended, isolation, When::Ready, 0, &[]);
        assert_torn_down(&ended, 0, 1, "SIGTERM");
        assert_torn_down(&ended, 1, 0, "SIGTERM");
        assert_closed(address);
    }
}

/// With `on_failure = ignore`, the others go on; with none left it is a failure.
fn ready_and_ignored(isolation: &str) {
    for fault in ["error", "return"] {
        let args = format!("--on-failure ignore --fault {fault}");
        let mut server = faulty(isolation, &args);
        let address = server.wait_until_ready();
        server.signal(Signal::USR1);
        server.wait_for("the server goes on without worker 0");
        // Until then worker 0, which is still ending, has its own open.
        wait_until_one_listens(address);
        serves(address);
        let ended = server.stop(Signal::TERM);
        assert_ended(&ended, 0, "worker 0");
        assert_torn_down(&ended, 1, 0, "SIGTERM");
        assert_closed(address);

        let mut server = faulty(isolation, &format!("{args} --workers 1"));
        server.wait_until_ready();
        server.signal(Signal::USR1);
        assert_ended(&server.wait(), 1, "worker 0");
    }
}

fn returning_unasked_is_a_failure(isolation: &str) {
    let mut server = faulty(isolation, "--fault return");
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    let ended = server.wait();
    assert_ended(&ended, 1, "worker 0 (pid ");
    assert_ended(
        &ended,
        1,
        ") returned although it had not been asked to stop",
    );
    assert_torn_down(&ended, 1, 0, "a worker failed");
    assert_closed(address);
}

/// Nobody waits for the tasks that it leaves: neither its successor nor who reads the log.
fn a_worker_that_fails_and_leaves_a_task_has_a_successor(isolation: &str) {
    let folder = Folder::new();
    let until = folder.file("done");
    let args = "--on-failure restart --fault task --shutdown-timeout 60000 --until";
    let mut server = faulty(isolation, &format!("{args} {}", until.display()));
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    server.wait_for("failed: the fixture's error");
    server.wait_for("set up worker=0 generation=1");
    server.wait_for("worker 0 is ready");
    serves(address);
    std::fs::write(&until, "").unwrap();
    server.wait_for("the task that was left is done");
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, "failed: the fixture's error");
    assert_eq!(ended.lines("the fixture's error").count(), 1);
    assert_torn_down(&ended, 0, 1, "SIGTERM");
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

/// Not only that of a worker which is ready.
fn a_blocked_event_loop_is_reported_at_any_time(isolation: &str) {
    let mut server = faulty(isolation, "--fault block --at starting");
    server.wait_for("the event loop of worker 0 has been blocked for");
    server.signal(Signal::TERM);
    server.wait_for("stopping: SIGTERM");
    outlast_repeated_signals();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code, Some(143));

    let mut server = faulty(isolation, "--fault block --at draining");
    server.wait_until_ready();
    server.signal(Signal::TERM);
    server.wait_for("the event loop of worker 0 has been blocked for");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code, Some(143));
}

/// What follows an end that nobody asked for then has no limit.
fn an_endless_shutdown_timeout_is_no_fault(isolation: &str) {
    let args = format!("--fault error --shutdown-timeout {}", u64::MAX);
    let mut server = faulty(isolation, &args);
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    let ended = server.wait();
    assert_ended(&ended, 1, "failed: the fixture's error");
    assert_eq!(ended.lines("panicked at").count(), 0, "{:#?}", ended.log);
    assert_torn_down(&ended, 1, 0, "a worker failed");
    assert_closed(address);
}

/// Its end is told before its exit handlers run, and nobody has asked it to stop.
fn a_worker_that_fails_and_whose_exit_handler_hangs_has_a_successor(isolation: &str) {
    let args = "--on-failure restart --fault exit-handler --shutdown-timeout 2000";
    let mut server = faulty(isolation, args);
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    server.wait_for("hangs at its end");
    server.wait_for("set up worker=0 generation=1");
    server.wait_for("worker 0 is ready");
    serves(address);
    if isolation == "process" {
        server.wait_for("worker 0 did not stop by its deadline");
    }
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, "failed: the fixture's error");
    assert_torn_down(&ended, 0, 1, "SIGTERM");
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

fn a_slot_that_fails_too_often_is_given_up(isolation: &str) {
    let args = "--on-failure restart --max-restarts 2 --fault error --from-then-on";
    let mut server = faulty(isolation, args);
    let address = server.wait_until_ready();
    for generation in 0..3 {
        server.signal(Signal::USR1);
        if generation < 2 {
            server.wait_for("worker 0 is started again in");
            server.wait_for(&format!("set up worker=0 generation={}", generation + 1));
            server.wait_for("worker 0 is ready");
        }
    }
    let ended = server.wait();
    assert_ended(
        &ended,
        4,
        "worker 0 failed 3 times within 60s, more than 2 times",
    );
    assert_torn_down(&ended, 1, 0, "a worker failed");
    assert_closed(address);
}

/// A failure counts for the restart window.
fn failures_that_are_far_apart_are_forgotten(isolation: &str) {
    let args =
        "--on-failure restart --max-restarts 1 --restart-window 3000 --fault error --from-then-on";
    let mut server = faulty(isolation, args);
    server.wait_until_ready();
    let mut fail = |generation: u64| {
        server.signal(Signal::USR1);
        server.wait_for("failed: the fixture's error");
        server.wait_for(&format!("set up worker=0 generation={generation}"));
        server.wait_for("worker 0 is ready");
    };
    fail(1);
    // That time passes is what is tested.
    thread::sleep(Duration::from_millis(3100));
    fail(2);
    server.signal(Signal::USR1);
    let cause = "worker 0 failed 2 times within 3s, more than 1 times";
    assert_ended(&server.wait(), 4, cause);
}

/// Without a subscriber of tracing it is written to stderr.
fn a_failure_is_told_where_nothing_logs(isolation: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    command.args(["--isolation", isolation, "--workers", "1"]);
    command.args(["--fault", "error", "--at", "starting"]);
    let ended = Running::start(command.env("AIOXIDE_FAULT", "no-log")).wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert_eq!(ended.log.len(), 1, "{:#?}", ended.log);
    let line = &ended.log[0];
    assert!(line.starts_with("aioxide: worker 0 (pid "), "{line}");
    assert!(line.ends_with(") failed: the fixture's error"), "{line}");
}

fn descriptors_run_out_while_starting(isolation: &str) {
    let ended = faulty(isolation, "--fault descriptors --at starting").wait();
    assert_ended(&ended, 1, "open files");
}

fn descriptors_run_out_and_come_back(isolation: &str) {
    let mut server = faulty(isolation, "--fault descriptors --workers 1");
    let address = server.wait_until_ready();
    let mut before = connect(address);
    before.write_all(b"hello").expect("the server reads");
    before.read_exact(&mut [0; 5]).expect("the server replies");
    server.signal(Signal::USR1);
    server.wait_for("went wrong");
    let mut during = connect(address);
    during.write_all(b"hello").expect("the kernel takes it");
    server.wait_for("cannot accept connections; pausing");
    before.write_all(b"hello").expect("the server reads");
    before.read_exact(&mut [0; 5]).expect("the server replies");
    server.signal(Signal::USR1);
    during.read_exact(&mut [0; 5]).expect("the server replies");
    drop((before, during));
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_torn_down(&ended, 0, 0, "SIGTERM");
    assert_closed(address);
}

fn descriptors_run_out_while_draining(isolation: &str) {
    let mut server = faulty(isolation, "--fault descriptors --at draining");
    let address = server.wait_until_ready();
    serves(address);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_torn_down(&ended, 0, 0, "SIGTERM");
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

fn descriptors_run_out_in_a_roll(isolation: &str) {
    let mut server = faulty(
        isolation,
        "--fault descriptors --at starting --generation 1",
    );
    let address = server.wait_until_ready();
    server.signal(Signal::HUP);
    server.wait_for("rolling restart given up: the successor of worker 0 failed to start");
    if isolation == "process" {
        serves(address);
    }
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, "open files");
    assert_torn_down(&ended, 0, 0, "SIGTERM");
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

/// Whatever blocks it, and however much time it would have.
fn a_second_signal_forces_a_blocked_worker(isolation: &str) {
    let mut server = faulty(isolation, "--fault block --at draining");
    let address = server.wait_until_ready();
    server.signal(Signal::TERM);
    server.wait_for("stopping: SIGTERM");
    outlast_repeated_signals();
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(143), "{:#?}", ended.log);
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

/// A program of the test's own that can be replaced.
fn own_program(folder: &Folder) -> std::path::PathBuf {
    let program = folder.file("server");
    shell(&format!(
        "cp {} {}",
        env!("CARGO_BIN_EXE_faulty"),
        program.display()
    ));
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

fn size(program: &Path) -> u64 {
    fs::metadata(program).expect("the program is there").len()
}

/// The size of the executable, as a worker logs it.
fn image(line: &str) -> u64 {
    let size = line
        .rsplit("image=")
        .next()
        .and_then(|size| size.parse().ok());
    size.unwrap_or_else(|| panic!("no size in `{line}`"))
}

#[test]
fn a_crash_keeps_the_version_and_a_roll_changes_it() {
    let folder = Folder::new();
    let program = own_program(&folder);
    let mut server = start(&program, "process", "--on-failure restart --fault kill");
    let address = server.wait_until_ready();
    let old = size(&program);
    replace(&program);
    server.signal(Signal::USR1);
    assert_eq!(image(&server.wait_for("set up worker=0 generation=1")), old);
    server.signal(Signal::HUP);
    assert_eq!(
        image(&server.wait_for("set up worker=0 generation=2")),
        old + 5
    );
    assert_eq!(
        image(&server.wait_for("set up worker=1 generation=1")),
        old + 5
    );
    server.wait_for("rolling restart done");
    serves(address);
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, "killed by SIGKILL");
    assert_closed(address);
}

/// What runs is held open from the start: all workers are of that version until a roll is asked for.
#[test]
fn a_program_that_is_replaced_before_its_workers_start_is_run_as_it_was() {
    let folder = Folder::new();
    let program = own_program(&folder);
    let args = "--before-run 500 --on-failure restart --fault kill";
    let mut server = start(&program, "process", args);
    let old = size(&program);
    replace(&program);
    let address = server.wait_until_ready();
    for worker in 0..2 {
        let set_up = format!("set up worker={worker} generation=0");
        assert_eq!(image(&server.wait_until_logged(&set_up)), old);
    }

    server.signal(Signal::USR1);
    assert_eq!(image(&server.wait_for("set up worker=0 generation=1")), old);
    server.wait_for("worker 0 is ready");
    server.signal(Signal::HUP);
    server.wait_for("rolling restart done");
    for set_up in [
        "set up worker=0 generation=2",
        "set up worker=1 generation=1",
    ] {
        assert_eq!(image(&server.wait_until_logged(set_up)), old + 5);
    }
    serves(address);
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, "killed by SIGKILL");
    assert_closed(address);
}

/// As many that either worker has one, in all likelihood: worker 0 drains until they are dropped.
fn held(address: SocketAddr) -> Vec<TcpStream> {
    let held = (0..16).map(|_| {
        let mut stream = connect(address);
        stream.write_all(b"hello").expect("the server reads");
        stream.read_exact(&mut [0; 5]).expect("the server replies");
        stream
    });
    held.collect()
}

/// One roll brings one version, whatever comes to the disk between its slots; that is the next roll's.
#[test]
fn a_program_that_is_replaced_or_removed_during_a_roll_is_the_next_rolls() {
    for is_removed in [false, true] {
        let folder = Folder::new();
        let program = own_program(&folder);
        let mut server = start(&program, "process", "");
        let address = server.wait_until_ready();
        let old = size(&program);
        let held = held(address);
        server.signal(Signal::HUP);
        assert_eq!(image(&server.wait_for("set up worker=0 generation=1")), old);
        match is_removed {
            true => fs::remove_file(&program).expect("the program can be removed"),
            false => replace(&program),
        }
        drop(held);
        assert_eq!(image(&server.wait_for("set up worker=1 generation=1")), old);
        server.wait_for("rolling restart done");
        serves(address);

        server.signal(Signal::HUP);
        if is_removed {
            server.wait_for("rolling restart given up: the successor of worker 0 failed to start");
        } else {
            for worker in 0..2 {
                let set_up = format!("set up worker={worker} generation=2");
                assert_eq!(image(&server.wait_for(&set_up)), old + 5);
            }
            server.wait_for("rolling restart done");
        }
        serves(address);
        let ended = server.stop(Signal::TERM);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        let expected = if is_removed {
            vec!["No such file", "rolling restart given up"]
        } else {
            Vec::new()
        };
        assert_eq!(ended.errors().len(), expected.len(), "{:#?}", ended.log);
        for error in expected {
            assert_ended(&ended, 0, error);
        }
        let generation = if is_removed { 1 } else { 2 };
        assert_torn_down(&ended, 0, generation, "SIGTERM");
        assert_torn_down(&ended, 1, generation, "SIGTERM");
        assert_closed(address);
    }
}

/// Nothing is started any more.
#[test]
fn a_program_that_is_replaced_or_removed_while_draining_is_no_loss() {
    for is_removed in [false, true] {
        let folder = Folder::new();
        let program = own_program(&folder);
        let mut server = start(&program, "process", "");
        let address = server.wait_until_ready();
        let held = held(address);
        server.signal(Signal::TERM);
        server.wait_for("stopping: SIGTERM");
        match is_removed {
            true => fs::remove_file(&program).expect("the program can be removed"),
            false => replace(&program),
        }
        drop(held);
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
        assert_torn_down(&ended, 0, 0, "SIGTERM");
        assert_torn_down(&ended, 1, 0, "SIGTERM");
        assert_closed(address);
    }
}

/// What a roll finds on disk is no server: what runs goes on, and is restarted as the version that it was.
#[test]
fn a_broken_or_missing_program_breaks_nothing_that_runs() {
    for (breaks, cause) in [
        ("rm $0", "No such file"),
        ("rm $0; echo no program > $0", "Permission denied"),
        (
            "rm $0; echo no program > $0; chmod +x $0",
            "Exec format error",
        ),
        (
            "rm $0; cp /bin/true $0",
            "exited with code 0 before it reached the `Server::run` that it was started for",
        ),
    ] {
        let folder = Folder::new();
        let program = own_program(&folder);
        let mut server = start(&program, "process", "--on-failure restart --fault kill");
        let address = server.wait_until_ready();
        shell(&breaks.replace("$0", &program.display().to_string()));

        server.signal(Signal::HUP);
        server.wait_for("rolling restart given up: the successor of worker 0 failed to start");
        serves(address);
        server.signal(Signal::USR1);
        server.wait_for("worker 0 is ready");
        serves(address);
        let ended = server.stop(Signal::TERM);
        assert_ended(&ended, 0, cause);
        assert_ended(&ended, 0, "failed: killed by SIGKILL");
        assert_torn_down(&ended, 1, 0, "SIGTERM");
        assert_closed(address);
    }
}

/// It is held open from the start, so that it is there for the first workers too.
#[test]
fn a_program_that_is_removed_before_its_workers_start_is_no_loss() {
    let folder = Folder::new();
    let program = own_program(&folder);
    let mut server = start(&program, "process", "--before-run 500");
    fs::remove_file(&program).expect("the program can be removed");
    let address = server.wait_until_ready();
    serves(address);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_torn_down(&ended, 0, 0, "SIGTERM");
    assert_closed(address);
}

fn limit_descriptors(pid: Pid, current: Option<u64>) {
    // The hard limit is the one that the server has inherited.
    let limits = Rlimit {
        current,
        ..getrlimit(Resource::Nofile)
    };
    prlimit(Some(pid), Resource::Nofile, limits).expect("a limit can be set");
}

/// A successor can't be started until there are some again; what runs goes on.
#[test]
fn a_supervisor_that_runs_out_of_descriptors_goes_on() {
    let mut server = faulty("process", "--on-failure restart --fault kill");
    let address = server.wait_until_ready();
    let pid = server.pid();
    // None beside the standard streams.
    limit_descriptors(pid, Some(3));
    server.signal(Signal::HUP);
    server.wait_for("rolling restart given up: the successor of worker 0 failed to start");
    serves(address);

    server.signal(Signal::USR1);
    server.wait_for("could not be started");
    server.wait_for("worker 0 is started again in");
    limit_descriptors(pid, getrlimit(Resource::Nofile).current);
    server.wait_for("worker 0 is ready");
    serves(address);
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, "open files");
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

/// It is killed while the successor that the roll brings is still starting: that one takes its place, and what came
/// to its port meanwhile.
#[test]
fn a_predecessor_that_dies_before_its_successor_is_ready_ends_no_roll() {
    // That fault leaves a worker alone which is only starting.
    let waits = "--fault return --at starting --generation 1 --when-told";
    let mut server = faulty("process", waits);
    let address = server.wait_until_ready();
    let old = pid_in(&server.wait_until_logged("set up worker=0 generation=0"));
    server.signal(Signal::HUP);
    server.wait_for("set up worker=0 generation=1");
    kill_process(old, Signal::KILL).expect("it stops only when its successor is ready");
    let failed = format!("worker 0 (pid {old}) failed: killed by SIGKILL");
    server.wait_for(&failed);
    let waiting = (0..16).map(|_| {
        let mut stream = connect(address);
        stream.write_all(b"hello").expect("the kernel takes it");
        stream
    });
    let waiting: Vec<TcpStream> = waiting.collect();
    server.signal(Signal::USR1);
    server.wait_for("worker 0 is ready");
    for mut stream in waiting {
        stream.read_exact(&mut [0; 5]).expect("the server replies");
    }
    server.wait_for("rolling restart done");
    let ended = server.stop(Signal::TERM);
    assert_ended(&ended, 0, &failed);
    assert_eq!(ended.errors().len(), 1, "{:#?}", ended.log);
    assert_torn_down(&ended, 0, 1, "SIGTERM");
    assert_torn_down(&ended, 1, 0, "rolling restart");
    assert_torn_down(&ended, 1, 1, "SIGTERM");
    assert_closed(address);
}

/// A second would have been more than enough for each to be noticed three times.
#[test]
fn a_hang_timeout_below_a_second_is_not_a_second() {
    let args = "--on-failure restart --fault block --from-then-on --hang-timeout 200";
    let mut server = faulty("process", args);
    server.wait_until_ready();
    let hangs = (0..3).map(|generation| {
        let begun = Instant::now();
        server.signal(Signal::USR1);
        server.wait_for("worker 0 hangs: its event loop has been blocked for 200ms");
        let took = begun.elapsed();
        server.wait_for(&format!("set up worker=0 generation={}", generation + 1));
        server.wait_for("worker 0 is ready");
        took
    });
    // What is shorter than a second in one of them is no whole second.
    let shortest = hangs.min();
    assert!(shortest < Some(Duration::from_millis(900)), "{shortest:?}");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// An orderly end takes none.
fn a_supervisor_that_is_out_of_descriptors_stops(isolation: &str) {
    let mut server = faulty(isolation, "");
    let address = server.wait_until_ready();
    let held = held(address);
    limit_descriptors(server.pid(), Some(3));
    server.signal(Signal::TERM);
    server.wait_for("stopping: SIGTERM");
    drop(held);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    assert_torn_down(&ended, 0, 0, "SIGTERM");
    assert_torn_down(&ended, 1, 0, "SIGTERM");
    assert_closed(address);
}

aioxide_tests::under_both_isolations! {
    starting,
    ready,
    draining,
    successor_in_a_roll,
    a_roll_that_is_given_up_half_way,
    failures_that_are_far_apart_are_forgotten,
    a_failure_is_told_where_nothing_logs,
    predecessor_in_a_roll,
    ready_and_restarted,
    ready_and_ignored,
    arguments_are_cloned_where_the_worker_runs,
    returning_unasked_is_a_failure,
    a_worker_that_fails_and_leaves_a_task_has_a_successor,
    a_blocked_event_loop_is_reported_at_any_time,
    an_endless_shutdown_timeout_is_no_fault,
    a_worker_that_fails_and_whose_exit_handler_hangs_has_a_successor,
    a_slot_that_fails_too_often_is_given_up,
    a_second_signal_forces_a_blocked_worker,
    descriptors_run_out_while_starting,
    descriptors_run_out_and_come_back,
    descriptors_run_out_while_draining,
    descriptors_run_out_in_a_roll,
    a_supervisor_that_is_out_of_descriptors_stops,
}
