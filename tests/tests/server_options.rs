//! The options of a server, and what a worker may ask of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aioxide_tests::{
    Ended, Folder, Running, Signal, assert_closed, assert_graceful, connect,
    outlast_repeated_signals, pid_in,
};

const PLAIN: &str = env!("CARGO_BIN_EXE_plain");

fn command(program: &str, isolation: &str, args: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace());
    command
}

fn start(program: &str, isolation: &str, args: &str) -> Running {
    Running::start(&mut command(program, isolation, args))
}

#[track_caller]
fn assert_failed(ended: &Ended, code: i32, cause: &str) {
    assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
    let told = ended.errors().iter().any(|line| line.contains(cause));
    assert!(told, "no `{cause}`: {:#?}", ended.log);
}

/// Where in the log the first line with this text is.
#[track_caller]
fn position(ended: &Ended, text: &str) -> usize {
    let position = ended.log.iter().position(|line| line.contains(text));
    position.unwrap_or_else(|| panic!("no `{text}`: {:#?}", ended.log))
}

/// What follows `name=` in a line.
#[track_caller]
fn field<'l>(line: &'l str, name: &str) -> &'l str {
    let name = format!("{name}=");
    let rest = line.split(&name).nth(1);
    let value = rest.and_then(|rest| rest.split(' ').next());
    value.unwrap_or_else(|| panic!("no `{name}` in `{line}`"))
}

fn address(line: &str, name: &str) -> SocketAddr {
    field(line, name).parse().expect("an address")
}

fn with_main(isolation: &str, fault: &str, args: &str) -> Running {
    let program = env!("CARGO_BIN_EXE_main_context");
    Running::start(command(program, isolation, args).env("AIOXIDE_FAULT", fault))
}

fn the_main_context_is_around_all_workers(isolation: &str) {
    let mut server = with_main(isolation, "", "");
    server.wait_for("2 workers are ready");
    server.signal(Signal::HUP);
    server.wait_for("rolling restart done");
    let ended = server.stop(Signal::INT);
    assert_graceful(&ended);
    assert_eq!(ended.lines("has the value").count(), 4);
    assert_eq!(ended.lines("main context: entering").count(), 1);
    assert_eq!(ended.lines("main context: left").count(), 1);
    let left = position(&ended, "main context: left: stopped: SIGINT");
    for worker in 0..2 {
        assert!(position(&ended, &format!("torn down: SIGINT worker={worker}")) < left);
    }
}

fn a_main_context_that_fails_is_told_by_code_2(isolation: &str) {
    let ended = with_main(isolation, "enter", "").wait();
    assert_failed(&ended, 2, "the fixture's error on entering");
    assert_eq!(ended.lines("has the value").count(), 0);

    let mut server = with_main(isolation, "leave", "");
    server.wait_for("2 workers are ready");
    let ended = server.stop(Signal::TERM);
    assert_failed(&ended, 2, "the fixture's error on leaving");
    assert_eq!(ended.lines("torn down: SIGTERM").count(), 2);
}

fn a_main_context_that_is_being_entered_can_be_stopped(isolation: &str) {
    let mut server = with_main(isolation, "slow-enter", "");
    server.wait_for("main context: entering");
    assert_graceful(&server.stop(Signal::TERM));
}

fn a_main_context_that_is_not_left_in_time_ends_with_3(isolation: &str) {
    let mut server = with_main(isolation, "slow-leave", "--shutdown-timeout 1500");
    server.wait_for("2 workers are ready");
    let ended = server.stop(Signal::TERM);
    assert_failed(&ended, 3, "");
    assert_eq!(ended.lines("torn down: SIGTERM").count(), 2);
    assert_eq!(
        ended.lines("main context: left: stopped: SIGTERM").count(),
        1
    );
}

/// The user's code holds up only itself.
fn a_main_context_that_blocks_keeps_no_signal_from_the_server(isolation: &str) {
    for (fault, before, blocked) in [
        ("block-enter", "main context: entering", "stopping: SIGTERM"),
        (
            "block-leave",
            "2 workers are ready",
            "main context: left: stopped: SIGTERM",
        ),
    ] {
        let mut server = with_main(isolation, fault, "");
        server.wait_for(before);
        let asked = Instant::now();
        server.signal(Signal::TERM);
        server.wait_until_logged("stopping: SIGTERM");
        assert!(asked.elapsed() < Duration::from_secs(5));
        server.wait_until_logged(blocked);
        outlast_repeated_signals();
        let ended = server.stop(Signal::TERM);
        assert_eq!(ended.code, Some(143), "{:#?}", ended.log);
        assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);

        let mut server = with_main(isolation, fault, "--shutdown-timeout 1000");
        server.wait_for(before);
        let ended = server.stop(Signal::TERM);
        assert_failed(&ended, 3, "the main context was not left by its deadline");
        assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    }
}

/// While its parts wait for a worker that has yet to begin to read them.
#[test]
fn a_server_can_be_stopped_while_it_sends_the_main_contexts_value() {
    let mut server = with_main("process", "", "--before-run 500");
    server.wait_for("main context: entering");
    server.wait_for_child();
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    position(&ended, "main context: left: stopped: SIGTERM");
}

/// What the main context's own function leaves is inside it: it is left when that is torn down.
fn a_teardown_of_the_main_context_that_is_cut_ends_with_3(isolation: &str) {
    let mut server = with_main(isolation, "slow-detached", "--shutdown-timeout 1500");
    server.wait_for("2 workers are ready");
    let ended = server.stop(Signal::TERM);
    assert_failed(&ended, 3, "the main context was not left by its deadline");
    assert_eq!(ended.lines("torn down: SIGTERM").count(), 2);
}

#[test]
fn a_main_value_that_a_worker_cannot_decode_is_a_failure_to_start() {
    let ended = with_main("process", "undecodable", "").wait();
    assert_failed(&ended, 1, "the fixture's value is unsound");
    assert_eq!(
        ended.lines("main context: left: stopped").count(),
        1,
        "{:#?}",
        ended.log
    );
}

fn extras_run_beside_the_workers_and_stop_after_them(isolation: &str) {
    let mut server = start(env!("CARGO_BIN_EXE_extras"), isolation, "");
    let metrics = server.wait_for("metrics: set up");
    assert_eq!(field(&metrics, "index"), "None");
    let address = address(&metrics, "address");
    server.wait_for("workers are ready");
    let mut hello = String::new();
    connect(address)
        .read_to_string(&mut hello)
        .expect("the extra replies");
    assert_eq!(hello, "hello");
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    for extra in ["metrics: torn down: SIGTERM", "router: torn down: SIGTERM"] {
        assert_eq!(ended.lines(extra).count(), 1, "{:#?}", ended.log);
        for worker in 0..2 {
            let workers = position(&ended, &format!(" torn down: SIGTERM worker={worker}"));
            assert!(workers < position(&ended, extra), "{:#?}", ended.log);
        }
    }
    let pids = ended
        .lines("set up")
        .map(pid_in)
        .collect::<std::collections::HashSet<_>>();
    assert_eq!(pids.len(), if isolation == "process" { 4 } else { 1 });
    assert_closed(address);
}

/// A synchronous extra has no event loop that could hang.
fn a_synchronous_extra_does_not_hang(isolation: &str) {
    let mut server = start(
        env!("CARGO_BIN_EXE_extras"),
        isolation,
        "--hang-timeout 1000",
    );
    server.wait_for("workers are ready");
    // That nothing happens while the timeout passes, and a second of grace, is what is tested.
    std::thread::sleep(Duration::from_secs(4));
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines("router: set up").count(), 1, "{:#?}", ended.log);
}

/// It was ready from its start, though it has never said so.
fn a_synchronous_extra_that_fails_when_it_stops_has_failed(isolation: &str) {
    let mut command = command(env!("CARGO_BIN_EXE_extras"), isolation, "");
    let mut server = Running::start(command.env("AIOXIDE_FAULT", "router"));
    server.wait_for_all(&["router: set up", "workers are ready"]);
    let ended = server.stop(Signal::TERM);
    assert_failed(&ended, 1, "failed: the fixture's error on stopping");
}

fn an_extra_that_fails_does_as_on_failure_says(isolation: &str) {
    let mut server = start(env!("CARGO_BIN_EXE_extras"), isolation, "");
    server.wait_for("workers are ready");
    server.signal(Signal::USR1);
    assert_failed(&server.wait(), 1, "failed: the fixture's error");

    let mut server = start(
        env!("CARGO_BIN_EXE_extras"),
        isolation,
        "--on-failure restart",
    );
    let before = address(&server.wait_for("metrics: set up"), "address");
    server.wait_for("workers are ready");
    server.signal(Signal::USR1);
    let after = address(&server.wait_for("metrics: set up"), "address");
    assert_eq!(before, after);
    server.wait_for("metrics is ready");
    let ended = server.stop(Signal::TERM);
    assert_failed(&ended, 0, "failed: the fixture's error");
    assert_closed(after);
}

/// The caller's arguments, in calls of the functions that the options name.
fn options_use_the_arguments(isolation: &str) {
    let program = env!("CARGO_BIN_EXE_arguments");
    let mut server = start(program, isolation, "--on-failure restart");
    let announced = server.wait_for("announced: 127.0.0.1:0 (127.0.0.1:");
    assert_eq!(pid_in(&announced), server.pid());
    server.signal(Signal::USR1);
    let failed = server.wait_for("exporter (pid ");
    for fact in [
        "failed: the fixture's error",
        "role=\"exporter\"",
        "cause=\"the fixture's error\"",
    ] {
        assert!(failed.contains(fact), "{failed}");
    }
    let again = server.wait_for("exporter is started again in");
    assert_eq!(field(&again, "restarts"), "1");
    server.wait_for("exporter: set up");
    server.wait_for("exporter is ready");
    let ended = server.stop(Signal::TERM);
    assert_failed(&ended, 0, "exporter (pid ");

    let shared = "shared=Shared(\"a texta text\")";
    let all = |text: &str, facts: &[&str], times: usize| {
        let lines: Vec<&str> = ended.lines(text).collect();
        assert_eq!(lines.len(), times, "{text}: {:#?}", ended.log);
        for line in lines {
            assert!(facts.iter().all(|fact| line.contains(fact)), "{line}");
        }
    };
    all(
        " arguments: set up worker=",
        &[shared, "on_failure=restart"],
        2,
    );
    all("router: set up", &["number=7"], 1);
    all("exporter: set up", &["number=8", shared], 2);
    all("blocking: set up", &[shared], 1);
    all("main context: stopped: SIGTERM", &[], 1);
    all("parts::router is ready", &["role=\"parts::router\""], 1);
    all(
        "is ready worker=1",
        &["worker 1 is ready", "role=\"worker\""],
        1,
    );
    all(
        "workers are ready, listening on",
        &["workers=2", "addr=\"127.0.0.1:"],
        1,
    );
    all("main is ready", &[], 0);
    let pids: std::collections::HashSet<_> = ended
        .lines("set up")
        .filter(|line| line.contains("pid="))
        .map(pid_in)
        .collect();
    assert_eq!(pids.len(), if isolation == "process" { 5 } else { 1 });

    // The policy is the expression's too.
    let mut server = start(program, isolation, "--on-failure ignore");
    server.wait_for("announced: ");
    server.signal(Signal::USR1);
    server.wait_for("the server goes on without exporter");
    assert_failed(&server.stop(Signal::TERM), 0, "exporter (pid ");
}

/// A loop over them, in a task that the worker is waited for, would else last until the deadline.
fn reloads_end_at_the_stop(isolation: &str) {
    let mut server = start(PLAIN, isolation, "--counts-reloads");
    server.wait_until_ready();
    server.signal(Signal::USR1);
    for _ in 0..2 {
        server.wait_for("told worker=");
    }
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(
        ended.lines("no more reloads reloaded=1").count(),
        2,
        "{:#?}",
        ended.log
    );
    assert!(
        ended.took < Duration::from_secs(10),
        "took {:?}",
        ended.took
    );
}

/// All of them, in few lines.
fn failed_handlers_are_told_once_a_second(isolation: &str) {
    const FAILED: usize = 100;
    let mut server = start(env!("CARGO_BIN_EXE_traffic"), isolation, "--workers 1");
    let address = server.wait_until_ready();
    let began = Instant::now();
    for _ in 0..FAILED {
        drop(connect(address));
    }
    // Accepted after those.
    let mut last = connect(address);
    last.write_all(b"e").expect("the server reads");
    last.read_exact(&mut [0]).expect("the server replies");
    let line = server.wait_for("a connection's handler failed");
    assert!(
        line.contains(" WARN ") && line.contains("error=\""),
        "{line}"
    );
    assert_eq!(field(&line, "worker"), "0");
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    let seconds = began.elapsed().as_secs() as usize;
    let lines: Vec<&str> = ended.lines("a connection's handler failed").collect();
    let failed = lines.iter().map(|line| field(line, "failed"));
    let failed: usize = failed
        .map(|failed| failed.parse::<usize>().expect("a number"))
        .sum();
    assert_eq!(failed, FAILED, "{lines:#?}");
    assert!(lines.len() <= seconds + 3, "{lines:#?}");
}

fn init_runs_once_in_each_process_before_any_runtime(isolation: &str) {
    let mut server = start(PLAIN, isolation, "");
    server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    let init: Vec<&str> = ended.lines("init pid=").collect();
    assert_eq!(
        init.len(),
        if isolation == "process" { 3 } else { 1 },
        "{init:#?}"
    );
    assert!(
        init.iter().all(|line| field(line, "threads") == "1"),
        "{init:#?}"
    );
    let mut indices: Vec<&str> = init.iter().map(|line| field(line, "index")).collect();
    indices.sort_unstable();
    let expected: &[&str] = match isolation {
        "process" => &["None", "Some(0)", "Some(1)"],
        _ => &["None"],
    };
    assert_eq!(indices, expected, "{init:#?}");
}

fn the_environment_says_how_many_workers(isolation: &str) {
    let mut command = command("env", isolation, "");
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = Command::new("env");
    command.arg("AIOXIDE_WORKERS=3").arg(PLAIN).args(arguments);
    let mut server = Running::start(&mut command);
    server.wait_for("3 workers are ready");
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    let overrides =
        "INFO aioxide::server: AIOXIDE_WORKERS=3 overrides the 2 workers that the program asks for";
    assert_eq!(ended.lines(overrides).count(), 1, "{:#?}", ended.log);

    for wrong in ["many", "0", "-1"] {
        let mut command = Command::new("env");
        let variable = format!("AIOXIDE_WORKERS={wrong}");
        command.args([&variable, PLAIN, "--isolation", isolation]);
        let ended = Running::start(&mut command).wait();
        let told = format!("AIOXIDE_WORKERS is `{wrong}`; allowed is a number from 1 to");
        assert_failed(&ended, 1, &told);
    }
    let ended = start(PLAIN, isolation, "--workers 0").wait();
    assert_failed(&ended, 1, "the number of workers is 0; allowed is 1 to");
}

fn workers_that_run_to_completion_end_the_server(isolation: &str) {
    let ended = start(PLAIN, isolation, "--completes").wait();
    assert_graceful(&ended);
    assert_eq!(
        ended
            .lines("torn down: stopped: all workers have ended")
            .count(),
        2
    );

    let mut server = start(PLAIN, isolation, "--completes --slow-stop 3000");
    server.wait_for("worker 0 is ready");
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines("stopping: SIGTERM").count(), 1);
}

/// A worker of the second runs through the call of the first, which is none of its business.
#[test]
fn two_servers_of_a_program_have_workers_of_their_own() {
    let ended = Running::start(&mut Command::new(env!("CARGO_BIN_EXE_two_servers"))).wait();
    assert_graceful(&ended);
    let pids = |body| {
        let pids = ended.lines(body).map(pid_in);
        pids.collect::<std::collections::HashSet<_>>()
    };
    let (first, second) = (pids(" first worker="), pids(" second worker="));
    for (pids, body) in [(&first, " first worker="), (&second, " second worker=")] {
        assert_eq!(ended.lines(body).count(), 2, "{:#?}", ended.log);
        assert_eq!(pids.len(), 2, "{:#?}", ended.log);
    }
    assert!(first.is_disjoint(&second), "{:#?}", ended.log);
}

fn all_workers_get_the_same_sockets(isolation: &str) {
    let folder = Folder::new();
    let path = folder.file("socket");
    let mut arguments = command(env!("CARGO_BIN_EXE_sockets"), isolation, "--workers 3");
    let mut server = Running::start(arguments.arg("--unix").arg(&path));
    let lines = [(); 3].map(|()| server.wait_for("listens"));
    server.wait_for("3 workers are ready, listening on");
    let [first, second, udp] = ["first", "second", "udp"].map(|name| {
        assert!(
            lines
                .iter()
                .all(|line| field(line, name) == field(&lines[0], name)),
            "{lines:#?}"
        );
        address(&lines[0], name)
    });
    assert_ne!(first, second);

    let mut answer = [0];
    let mut served = [0; 3];
    for _ in 0..50 {
        for at in [first, second] {
            connect(at)
                .read_exact(&mut answer)
                .expect("the server replies");
            served[usize::from(answer[0])] += 1;
        }
    }
    assert!(served.iter().all(|served| *served > 5), "{served:?}");

    assert_eq!(
        std::fs::metadata(&path)
            .expect("a socket")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let mut stream = UnixStream::connect(&path).expect("the server accepts");
    stream.read_exact(&mut answer).expect("the server replies");

    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client
        .set_read_timeout(Some(aioxide_tests::PATIENCE))
        .expect("a timeout");
    client.send_to(b"hello", udp).expect("it can be sent");
    client.recv_from(&mut answer).expect("the server replies");

    let inode = std::fs::metadata(&path).expect("a socket").ino();
    server.signal(Signal::HUP);
    server.wait_for("rolling restart done");
    assert_eq!(std::fs::metadata(&path).expect("a socket").ino(), inode);
    connect(second)
        .read_exact(&mut answer)
        .expect("the server replies");

    let mut rival = command(env!("CARGO_BIN_EXE_sockets"), isolation, "");
    let ended = Running::start(rival.arg("--unix").arg(&path)).wait();
    assert_failed(&ended, 1, &path.display().to_string());

    assert_graceful(&server.stop(Signal::TERM));
    assert!(!path.exists());
    assert_closed(first);
    assert_closed(second);
}

/// Once its listeners are dropped and all workers have given it up, nobody listens any more.
fn a_socket_that_is_given_up_is_closed(isolation: &str) {
    let folder = Folder::new();
    let mut sockets = command(env!("CARGO_BIN_EXE_sockets"), isolation, "--mode 660");
    // A relative path is one of the worker's folder.
    sockets
        .args(["--unix", "socket"])
        .current_dir(folder.path());
    let mut server = Running::start(&mut sockets);
    let line = server.wait_for("listens");
    let (first, second) = (address(&line, "first"), address(&line, "second"));
    server.wait_for("2 workers are ready, listening on");
    let path = folder.file("socket");
    let mode = std::fs::metadata(&path)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    connect(first)
        .read_exact(&mut [0])
        .expect("the server replies");

    server.signal(Signal::USR1);
    for _ in 0..2 {
        let again = server.wait_for("gave up; then: ");
        assert!(again.contains("this worker holds no socket on"), "{again}");
    }
    assert_closed(first);
    assert!(!path.exists());
    connect(second)
        .read_exact(&mut [0])
        .expect("the server replies");
    assert_graceful(&server.stop(Signal::TERM));
    assert_closed(second);
}

/// The port stays its slot's, and so does what the kernel has accepted.
fn a_listener_that_is_dropped_and_taken_again_loses_no_connection(isolation: &str) {
    let mut server = start(PLAIN, isolation, "--workers 1 --relistens");
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    server.wait_for("listens no more");
    let waiting: Vec<_> = (0..16).map(|_| connect(address)).collect();
    server.signal(Signal::USR1);
    for mut stream in waiting {
        assert_eq!(stream.read(&mut [0]).expect("it is served"), 0);
    }
    assert_graceful(&server.stop(Signal::TERM));
    assert_closed(address);
}

fn a_port_is_shared_with_another_server_only_if_both_say_so(isolation: &str) {
    let mut server = start(PLAIN, isolation, "--share-port");
    let address = server.wait_until_ready();
    let ended = start(PLAIN, isolation, &format!("--listen {address}")).wait();
    assert_failed(&ended, 1, &format!("cannot listen on {address}"));
    let mut second = start(
        PLAIN,
        isolation,
        &format!("--listen {address} --share-port"),
    );
    assert_eq!(second.wait_until_ready(), address);
    assert_graceful(&server.stop(Signal::TERM));
    drop(connect(address));
    assert_graceful(&second.stop(Signal::TERM));
    assert_closed(address);
}

fn tasks_are_waited_for_until_the_deadline(isolation: &str) {
    let mut server = start(PLAIN, isolation, "--task 300");
    server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines("the task is done").count(), 2);

    let mut server = start(PLAIN, isolation, "--task 60000 --shutdown-timeout 1000");
    server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    let cut: Vec<&str> = ended.lines("tasks cut at the deadline").collect();
    assert_eq!(cut.len(), 2, "{:#?}", ended.log);
    for line in cut {
        let place = field(line, "spawned_at");
        assert!(place.starts_with("tests/src/bin/plain.rs:"), "{line}");
        assert_eq!(field(line, "role"), "\"worker\"", "{line}");
    }
}

fn tasks_of_its_scope_are_waited_for_until_the_deadline(isolation: &str) {
    let mut server = start(PLAIN, isolation, "--task-in-scope 300");
    server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines("the task is done").count(), 2);

    let args = "--task-in-scope 60000 --shutdown-timeout 1000";
    let mut server = start(PLAIN, isolation, args);
    server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    let cut: Vec<&str> = ended.lines("tasks cut at the deadline").collect();
    assert_eq!(cut.len(), 2, "{:#?}", ended.log);
    for line in cut {
        assert_eq!(field(line, "scope"), "lasting", "{line}");
        assert!(!line.contains("spawned_at"), "{line}");
    }
    // What the task had entered, beside what its worker had.
    assert_eq!(ended.lines("torn down").count(), 4, "{:#?}", ended.log);
}

fn a_task_of_its_scope_that_fails_ends_its_worker(isolation: &str) {
    let mut server = start(PLAIN, isolation, "--failing-task --on-failure restart");
    server.wait_until_ready();
    server.signal(Signal::USR1);
    server.wait_for("failed: the mistake of a task");
    server.wait_for("set up worker=0 generation=1");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    // Two workers, the one that failed, and what its task had entered.
    assert_eq!(ended.lines("torn down").count(), 4, "{:#?}", ended.log);
}

/// Its event loop turns, so that it can be ended in either way: dropped or killed.
fn a_worker_that_waits_past_its_deadline_is_cut(isolation: &str) {
    let args = "--slow-stop 60000 --shutdown-timeout 1000";
    let mut server = start(PLAIN, isolation, args);
    let address = server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    for worker in 0..2 {
        let late = format!("worker {worker} did not stop by its deadline");
        assert_eq!(ended.lines(&late).count(), 1, "{:#?}", ended.log);
    }
    // What a thread detaches when it is dropped still runs; a process just ends.
    let torn_down = if isolation == "thread" { 2 } else { 0 };
    assert_eq!(
        ended.lines("torn down: cancelled worker=").count(),
        torn_down,
        "{:#?}",
        ended.log
    );
    assert_eq!(
        ended.lines("torn down").count(),
        torn_down,
        "{:#?}",
        ended.log
    );
    assert_eq!(ended.lines("is stuck").count(), 0, "{:#?}", ended.log);
    assert_closed(address);
}

/// As tokio's own `block_on` does: an error code could be thrown away unseen.
#[test]
fn a_server_inside_a_runtime_panics() {
    let ended = Running::start(&mut Command::new(env!("CARGO_BIN_EXE_in_runtime"))).wait();
    assert_failed(&ended, 101, "in_runtime.rs");
    for text in ["from within a tokio runtime", "use `Server::start`"] {
        assert_eq!(ended.lines(text).count(), 1, "{:#?}", ended.log);
    }
    assert_eq!(ended.errors().len(), 1, "{:#?}", ended.log);
}

#[test]
fn a_thread_that_a_worker_cannot_start_is_told_as_that() {
    let program = env!("CARGO_BIN_EXE_faulty");
    let ended = start(program, "process", "--fault threads --at init").wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    let told = "cannot be a worker: its thread `signals` can't be started: ";
    assert_eq!(ended.lines(told).count(), 1, "{:#?}", ended.log);
    assert_eq!(ended.lines("control socket").count(), 0, "{:#?}", ended.log);
}

/// What a supervisor would start as a worker, with the test at the other end of its control socket.
fn as_worker(program: &str) -> (Running, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let inode = rustix::fs::fstat(&theirs).expect("it is open").st_ino;
    let mut command = Command::new(program);
    command.env(
        "AIOXIDE_WORKER",
        format!("{}:{inode}:0", std::process::id()),
    );
    let running = Running::start_with(&mut command, Stdio::from(OwnedFd::from(theirs)));
    (running, ours)
}

#[test]
fn a_supervisor_of_another_version_is_refused_and_named() {
    let (worker, mut supervisor) = as_worker(PLAIN);
    supervisor
        .write_all(b"aioxide\0\xff\x7f\x069.9.9x")
        .expect("the worker reads");
    let ended = worker.wait();
    assert_failed(&ended, 1, "the other process uses aioxide 9.9.9x");
}

#[test]
fn a_supervisor_that_is_none_is_refused() {
    let (worker, mut supervisor) = as_worker(PLAIN);
    supervisor
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("the worker reads");
    assert_failed(&worker.wait(), 1, "is not aioxide");
}

#[test]
fn a_worker_whose_supervisor_went_at_once_ends() {
    let (worker, supervisor) = as_worker(PLAIN);
    drop(supervisor);
    assert_eq!(worker.wait().code, Some(1));
}

/// A worker that is not of this version, found by a rolling restart.
#[test]
fn a_worker_of_another_version_is_refused_and_named() {
    let folder = Folder::new();
    let program = folder.file("server");
    let replace = |by: &str| {
        let newer = folder.file("newer");
        // Not by this process: another test's fork may hold a file open that this one writes.
        let copied = Command::new("cp").arg(by).arg(&newer).status();
        assert!(copied.is_ok_and(|status| status.success()));
        std::fs::rename(newer, &program).expect("the program can be replaced");
    };
    replace(PLAIN);
    let mut server = start(&program.display().to_string(), "process", "");
    let address = server.wait_until_ready();
    replace(env!("CARGO_BIN_EXE_of_another_version"));
    server.signal(Signal::HUP);
    server.wait_for("the other process uses aioxide 9.9.9x");
    server.wait_for("rolling restart given up");
    drop(connect(address));
    let ended = server.stop(Signal::TERM);
    assert_failed(&ended, 0, "9.9.9x");
    assert_closed(address);
}

/// Also of those that fail for the same reason, and of one that was stopped before it failed by itself.
fn every_failure_of_a_stop_is_told(isolation: &str) {
    let told = |ended: &Ended, worker: usize| {
        let name = format!("worker {worker} (pid ");
        let errors = ended.lines("ERROR").filter(|line| line.contains(&name));
        errors
            .filter(|line| line.contains("failed: its own mistake "))
            .count()
    };
    let mut server = start(PLAIN, isolation, "--fails stop");
    server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert_eq!(
        [told(&ended, 0), told(&ended, 1)],
        [1, 1],
        "{:#?}",
        ended.log
    );

    let mut server = start(
        PLAIN,
        isolation,
        "--workers 1 --slow-start 1000 --fails start",
    );
    server.wait_for("set up worker=0");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert_eq!(told(&ended, 0), 1, "{:#?}", ended.log);
}

aioxide_tests::under_both_isolations! {
    every_failure_of_a_stop_is_told,
    the_main_context_is_around_all_workers,
    a_main_context_that_fails_is_told_by_code_2,
    a_main_context_that_is_being_entered_can_be_stopped,
    a_main_context_that_is_not_left_in_time_ends_with_3,
    a_main_context_that_blocks_keeps_no_signal_from_the_server,
    a_teardown_of_the_main_context_that_is_cut_ends_with_3,
    extras_run_beside_the_workers_and_stop_after_them,
    a_synchronous_extra_does_not_hang,
    a_synchronous_extra_that_fails_when_it_stops_has_failed,
    an_extra_that_fails_does_as_on_failure_says,
    options_use_the_arguments,
    reloads_end_at_the_stop,
    failed_handlers_are_told_once_a_second,
    init_runs_once_in_each_process_before_any_runtime,
    the_environment_says_how_many_workers,
    workers_that_run_to_completion_end_the_server,
    all_workers_get_the_same_sockets,
    a_socket_that_is_given_up_is_closed,
    a_listener_that_is_dropped_and_taken_again_loses_no_connection,
    a_port_is_shared_with_another_server_only_if_both_say_so,
    tasks_are_waited_for_until_the_deadline,
    tasks_of_its_scope_are_waited_for_until_the_deadline,
    a_task_of_its_scope_that_fails_ends_its_worker,
    a_worker_that_waits_past_its_deadline_is_cut,
}
