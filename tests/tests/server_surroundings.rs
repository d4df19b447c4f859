//! A server in odd surroundings: its supervisor killed, its terminal closed, without stdin, as process 1.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aioxide_tests::{Ended, PATIENCE, Running, Signal, assert_closed, connect, pid_in};
use rustix::fs::OFlags;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, prlimit};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const PLAIN: &str = env!("CARGO_BIN_EXE_plain");
const FAULTY: &str = env!("CARGO_BIN_EXE_faulty");

fn command(program: &str, isolation: &str, args: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace());
    command
}

/// A shell command with `$0` for a server that is to replace the shell.
fn in_shell(script: &str, server: &Command) -> Running {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(server.get_program());
    Running::start(shell.args(server.get_args()))
}

#[track_caller]
fn assert_graceful(ended: &Ended, signal: &str) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    let torn_down = format!("torn down: stopped: {signal} worker=");
    assert_eq!(ended.lines(&torn_down).count(), 2, "{:#?}", ended.log);
}

/// The end of the log is the end of the last worker.
#[test]
fn workers_stop_when_their_supervisor_is_killed() {
    let mut server = Running::start(&mut command(PLAIN, "process", ""));
    let address = server.wait_until_ready();
    let ended = server.stop(Signal::KILL);
    let torn_down = "torn down: stopped: the supervisor is gone worker=";
    assert_eq!(ended.lines(torn_down).count(), 2, "{:#?}", ended.log);
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    assert_closed(address);
}

#[test]
fn workers_with_an_endless_timeout_stop_when_their_supervisor_is_killed() {
    let args = format!("--shutdown-timeout {}", u64::MAX);
    let mut server = Running::start(&mut command(PLAIN, "process", &args));
    let address = server.wait_until_ready();
    let ended = server.stop(Signal::KILL);
    let torn_down = "torn down: stopped: the supervisor is gone worker=";
    assert_eq!(ended.lines(torn_down).count(), 2, "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    assert_closed(address);
}

#[test]
fn a_blocked_worker_ends_within_its_timeout_when_its_supervisor_is_killed() {
    let args = "--fault block --shutdown-timeout 1500";
    let mut server = Running::start(&mut command(FAULTY, "process", args));
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    server.wait_for("the event loop of worker 0 has been blocked for");
    let ended = server.stop(Signal::KILL);
    assert!(
        ended.took >= Duration::from_millis(1000),
        "took {:?}",
        ended.took
    );
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    let errors = ended.errors();
    assert!(
        errors
            .iter()
            .any(|line| line.contains("worker 0 did not stop after its supervisor was gone")),
        "{errors:#?}"
    );
    assert_closed(address);
}

#[test]
fn a_worker_that_hangs_in_init_ends_when_its_supervisor_is_killed() {
    let args = "--fault block --at init --shutdown-timeout 1500";
    let mut server = Running::start(&mut command(FAULTY, "process", args));
    server.wait_for("goes wrong in init");
    let ended = server.stop(Signal::KILL);
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
}

#[test]
fn an_exit_handler_that_hangs_keeps_no_worker_whose_supervisor_is_killed() {
    let args = "--fault exit-handler --at starting --shutdown-timeout 1500";
    let mut server = Running::start(&mut command(FAULTY, "process", args));
    let address = server.wait_until_ready();
    let ended = server.stop(Signal::KILL);
    assert_eq!(ended.lines("hangs at its end").count(), 1);
    assert!(
        ended.took >= Duration::from_millis(1000),
        "took {:?}",
        ended.took
    );
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    assert_closed(address);
}

#[test]
fn workers_that_are_starting_end_when_their_supervisor_is_killed() {
    let mut server = Running::start(&mut command(PLAIN, "process", "--slow-start 500"));
    server.wait_for("set up");
    let ended = server.stop(Signal::KILL);
    assert!(
        ended.took < Duration::from_secs(10),
        "took {:?}",
        ended.took
    );
}

/// A terminal: its controller's side, and the side of the programs on it.
fn terminal() -> (OwnedFd, File) {
    let controller =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&controller).expect("a terminal");
    unlockpt(&controller).expect("a terminal");
    let name = ptsname(&controller, Vec::new()).expect("a terminal");
    let path = name.into_string().expect("a path");
    let device = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a terminal");
    (controller, device)
}

/// The first process of a session on the terminal.
fn on_terminal(server: &Command) -> Command {
    let mut session = Command::new("setsid");
    session.args(["--ctty", "--"]).arg(server.get_program());
    session.args(server.get_args());
    session
}

fn a_closed_terminal_stops_the_server(isolation: &str) {
    let (controller, device) = terminal();
    let server = command(PLAIN, isolation, "");
    let mut server = Running::start_with(&mut on_terminal(&server), device);
    let address = server.wait_until_ready();
    drop(controller);
    assert_graceful(&server.wait(), "SIGHUP");
    assert_closed(address);
}

/// Also one that has said that nobody waits for its pid: the shell does.
fn a_supervisor_on_a_terminal_is_not_replaced(isolation: &str) {
    let (_controller, device) = terminal();
    let server = command(PLAIN, isolation, "--upgrade new_pid");
    let mut server = Running::start_with(&mut on_terminal(&server), device);
    let address = server.wait_until_ready();
    server.signal(Signal::USR2);
    let line = server.wait_for("upgrade refused");
    assert!(line.contains("has a controlling terminal"), "{line}");
    assert_graceful(&server.stop(Signal::TERM), "SIGTERM");
    assert_closed(address);
}

/// Not even a line of the log can be written any more.
fn a_closed_terminal_stops_a_server_that_logs_to_it(isolation: &str) {
    let (controller, device) = terminal();
    let server = command(PLAIN, isolation, "");
    let mut child = on_terminal(&server)
        // The subscriber panics when it can't write, and the fixture's own lines would fail its workers.
        .env("RUST_LOG", "aioxide=info")
        .stdin(device.try_clone().expect("a terminal"))
        .stdout(Stdio::piped())
        .stderr(device)
        .spawn()
        .expect("the server starts");
    let mut controller = File::from(controller);
    let mut log = Vec::new();
    while !String::from_utf8_lossy(&log).contains("ready, listening on") {
        let mut byte = [0];
        controller.read_exact(&mut byte).expect("the server logs");
        log.push(byte[0]);
    }
    drop(controller);

    assert_gone(&mut child, Some(0));
}

/// A server that is ready, and whose log takes no line any more. The log's reader keeps it open.
fn with_a_full_log(isolation: &str, args: &str) -> (Child, BufReader<PipeReader>) {
    let (log, stderr) = std::io::pipe().expect("a pipe");
    let mut full = File::options()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(format!("/proc/self/fd/{}", stderr.as_raw_fd()))
        .expect("a pipe can be opened again, with flags of its own");
    let child = command(PLAIN, isolation, args)
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the server starts");
    let mut log = BufReader::new(log);
    let mut line = String::new();
    while !line.contains("ready, listening on") {
        line.clear();
        log.read_line(&mut line).expect("the server logs");
    }
    while full.write(b"\n").is_ok() {}
    (child, log)
}

/// Not even that it stops can be logged.
fn a_log_that_nobody_reads_does_not_outlast_the_deadline(isolation: &str) {
    let (mut child, _log) = with_a_full_log(isolation, "--shutdown-timeout 1000");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the server is there");
    assert_gone(&mut child, Some(3));
}

/// The workers' own last lines then wait for ever.
#[test]
fn a_log_that_nobody_reads_keeps_no_worker_whose_supervisor_is_killed() {
    let (mut child, _log) = with_a_full_log("process", "--shutdown-timeout 1000");
    child.kill().expect("the server is there");
    assert_gone(&mut child, None);
}

/// All processes of the server end, the first of them with this code. They hold its stdout.
#[track_caller]
fn assert_gone(child: &mut Child, code: Option<i32>) {
    let mut stdout = child.stdout.take().expect("it is piped");
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(stdout.read_to_end(&mut Vec::new())));
    let ended = ended.recv_timeout(PATIENCE);
    if ended.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().expect("the server can be waited for");
    assert!(
        ended.is_ok(),
        "a process of the server is still alive; {status}"
    );
    assert_eq!(status.code(), code, "{status}");
}

/// Ctrl-C reaches the whole foreground group, which the workers don't belong to.
fn ctrl_c_on_a_terminal_stops_the_server(isolation: &str) {
    let (controller, device) = terminal();
    let server = command(PLAIN, isolation, "");
    let mut server = Running::start_with(&mut on_terminal(&server), device);
    let address = server.wait_until_ready();
    File::from(controller.try_clone().expect("a terminal"))
        .write_all(b"\x03")
        .expect("the terminal takes it");
    assert_graceful(&server.wait(), "SIGINT");
    drop(controller);
    assert_closed(address);
}

/// Ctrl-Z reaches the foreground group too: the workers of a suspended server go on, as processes, and it with
/// them once it is in the foreground again.
fn ctrl_z_on_a_terminal_suspends_the_supervisor(isolation: &str) {
    let (controller, device) = terminal();
    let server = command(PLAIN, isolation, "");
    // Without a shell that could continue it, the kernel suspends nothing.
    let mut shell = Command::new("sh");
    let script = "set -m; \"$0\" \"$@\"; echo \"suspended: $?\" >&2; read go; fg; exit $?";
    shell.args(["-c", script]).arg(server.get_program());
    shell.args(server.get_args());
    let mut server = Running::start_with(&mut on_terminal(&shell), device);
    let address = server.wait_until_ready();
    let mut keys = File::from(controller.try_clone().expect("a terminal"));
    keys.write_all(b"\x1a").expect("the terminal takes it");
    server.wait_for(&format!("suspended: {}", 128 + Signal::TSTP.as_raw()));
    let mut streams: Vec<_> = (0..16).map(|_| connect(address)).collect();
    let mut all_are_served = || {
        for stream in &mut streams {
            assert_eq!(stream.read(&mut [0]).expect("it is served"), 0);
        }
    };
    if isolation == "process" {
        all_are_served();
    }
    keys.write_all(b"\n").expect("the terminal takes it");
    // Told once it goes on, and so when the keys are its own again.
    kill_process(only_child(&server), Signal::USR1).expect("the server is there");
    server.wait_for("told");
    all_are_served();
    keys.write_all(b"\x03").expect("the terminal takes it");
    assert_graceful(&server.wait(), "SIGINT");
    drop(controller);
    assert_closed(address);
}

/// It can't be opened then, and is there nevertheless.
fn without_free_descriptors_a_terminal_is_not_gone(isolation: &str) {
    let (controller, device) = terminal();
    let server = command(PLAIN, isolation, "");
    let mut server = Running::start_with(&mut on_terminal(&server), device);
    let address = server.wait_until_ready();
    let limits = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(3),
        ..limits
    };
    let pid = server.pid();
    prlimit(Some(pid), Resource::Nofile, none).expect("a limit can be set");
    server.signal(Signal::HUP);
    server.wait_for("rolling restart given up");
    prlimit(Some(pid), Resource::Nofile, limits).expect("a limit can be set");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.lines("stopping: SIGHUP").count(), 0);
    drop(controller);
    assert_closed(address);
}

/// There, the terminal itself sends SIGTTIN and SIGTTOU: they don't mean the number of workers.
fn in_the_background_of_a_terminal_nothing_is_scaled(isolation: &str) {
    let (controller, device) = terminal();
    let server = command(PLAIN, isolation, "");
    let mut shell = Command::new("sh");
    shell.args(["-c", "set -m; \"$0\" \"$@\" & wait"]);
    shell.arg(server.get_program()).args(server.get_args());
    let mut server = Running::start_with(&mut on_terminal(&shell), device);
    let address = server.wait_until_ready();
    let pid = only_child(&server);
    for signal in [Signal::TTIN, Signal::USR1] {
        kill_process(pid, signal).expect("the server is there");
    }
    // Told by both workers, and once more: then the first signal has been seen too.
    server.wait_for("told");
    server.wait_for("told");
    kill_process(pid, Signal::USR1).expect("the server is there");
    server.wait_for("told");
    kill_process(pid, Signal::TERM).expect("the server is there");
    let ended = server.wait();
    assert_eq!(
        ended.lines("number of workers").count(),
        0,
        "{:#?}",
        ended.log
    );
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    drop(controller);
    assert_closed(address);
}

fn without_a_terminal_and_without_standard_streams(isolation: &str) {
    let server = command(PLAIN, isolation, "");
    let mut server = in_shell("exec setsid -w \"$0\" \"$@\" <&- >&-", &server);
    let address = server.wait_until_ready();
    let pid = only_child(&server);
    kill_process(pid, Signal::HUP).expect("the server is there");
    server.wait_for("rolling restart done");
    kill_process(pid, Signal::TERM).expect("the server is there");
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    assert_closed(address);
}

/// The server, under a program that waits for it; or that program itself if it doesn't wait.
fn only_child(server: &Running) -> Pid {
    let pid = server.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let child = children.ok().and_then(|children| {
        let first = children.split_whitespace().next()?.parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() != "plain").then(|| Pid::from_raw(first))?
    });
    child.unwrap_or(pid)
}

/// A server of which worker 0 starts this command, in a namespace of processes in which it is the first; `None` where
/// the system permits none.
fn as_process_1(isolation: &str, grandchild: &str) -> Option<Running> {
    let permitted = Command::new("unshare")
        .args(["-pf", "--mount-proc", "true"])
        .stderr(Stdio::null())
        .status();
    if !permitted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this system permits no namespaces of processes");
        return None;
    }
    let server = command(PLAIN, isolation, "");
    let mut unshare = Command::new("unshare");
    unshare
        .args(["-pf", "--mount-proc"])
        .arg(server.get_program());
    unshare.args(server.get_args());
    unshare.args(["--grandchild", grandchild]);
    Some(Running::start(&mut unshare))
}

/// Orphans of the whole namespace become its children.
fn as_process_1_with_stray_children(isolation: &str) {
    let stray = "sh -c 'true & true & exec true' & wait";
    let Some(mut server) = as_process_1(isolation, stray) else {
        return;
    };
    let address = server.wait_until_ready();
    let pid = only_child(&server);
    kill_process(pid, Signal::HUP).expect("the server is there");
    server.wait_for("rolling restart done");
    kill_process(pid, Signal::TERM).expect("the server is there");
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    assert_closed(address);
}

/// What a worker starts gets an empty stdin, no socket of the server's, and an environment that makes no
/// worker of it.
fn a_grandchild_is_no_worker(isolation: &str) {
    let script = format!(
        "cat; ls -l /proc/self/fd >&2; {PLAIN} --workers 1 --completes; echo \"server ended with $?\" >&2"
    );
    let mut server = command(PLAIN, isolation, "");
    let mut server = Running::start(server.args(["--grandchild", &script]));
    let address = server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    assert_eq!(
        ended.lines("server ended with 0").count(),
        1,
        "{:#?}",
        ended.log
    );
    assert_eq!(ended.lines("socket:").count(), 0, "{:#?}", ended.log);
    assert_closed(address);
}

/// A program that a worker has started has the supervisor for a parent, once that is process 1 and the worker's shell is
/// gone: by its environment, it would be a worker.
fn what_process_1_adopts_is_no_worker(isolation: &str) {
    let adopted = r#"grep -q "^PPid:[[:space:]]*1$" /proc/$$/status"#;
    let server = format!("{PLAIN} --workers 1 --completes; echo ended with $? >&2");
    let orphaned = format!("sh -c 'until {adopted}; do :; done; {server}' & exit 0");
    let Some(mut server) = as_process_1(isolation, &orphaned) else {
        return;
    };
    let address = server.wait_until_ready();
    server.wait_until_logged("ended with 0");
    kill_process(only_child(&server), Signal::TERM).expect("the server is there");
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
    assert_closed(address);
}

fn few_descriptors_are_an_error_that_says_so(isolation: &str) {
    let server = command(PLAIN, isolation, "--workers 8");
    let ended = in_shell("ulimit -n 16; exec \"$0\" \"$@\"", &server).wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    let told = ended
        .errors()
        .iter()
        .any(|line| line.contains("open files"));
    assert!(told, "{:#?}", ended.log);

    let server = command(PLAIN, isolation, "");
    let mut server = in_shell("ulimit -n 64; exec \"$0\" \"$@\"", &server);
    let address = server.wait_until_ready();
    drop(connect(address));
    assert_graceful(&server.stop(Signal::TERM), "SIGTERM");
    assert_closed(address);
}

/// The kernel tells nothing of the ends of children, then, and keeps none of their exit statuses.
#[test]
fn a_worker_that_dies_is_missed_although_sigchld_was_ignored_at_start() {
    // Not a shell's `trap`: dash goes on to hear of its own children.
    let ignoring = || {
        let mut env = Command::new("env");
        env.arg("--ignore-signal=CHLD");
        env
    };
    let status = ignoring()
        .args(["grep", "SigIgn", "/proc/self/status"])
        .output();
    let status = status.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let mask = status.as_ref().ok().and_then(|line| {
        let mask = line.split_whitespace().nth(1)?;
        u64::from_str_radix(mask, 16).ok()
    });
    let is_ignored = mask.is_some_and(|mask| mask >> (Signal::CHILD.as_raw() - 1) & 1 == 1);
    assert!(is_ignored, "{status:?}");

    let server = command(PLAIN, "process", "--on-failure restart");
    let mut ignoring = ignoring();
    ignoring.arg(server.get_program()).args(server.get_args());
    let mut server = Running::start(&mut ignoring);
    let address = server.wait_until_ready();
    let pid = pid_in(&server.wait_until_logged("set up worker=0"));
    kill_process(pid, Signal::KILL).expect("the worker is there");
    let failed = format!("worker 0 (pid {pid}) failed: killed by SIGKILL");
    server.wait_for(&failed);
    server.wait_for("worker 0 is ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors().len(), 1, "{:#?}", ended.log);
    assert_closed(address);
}

/// Signals that a launcher has blocked would never come, and blocked they would be handed down to the workers.
fn blocked_signals_are_unblocked(isolation: &str) {
    for round in 0..aioxide_tests::rounds(60) {
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_blocks_signals"));
        launcher
            .args(["SIGTERM,SIGINT,SIGHUP,SIGCHLD,SIGUSR1", PLAIN])
            .args(["--isolation", isolation]);
        let mut server = Running::start(&mut launcher);
        let address = server.wait_until_ready();
        server.signal(Signal::HUP);
        server.wait_for("rolling restart done");
        server.signal(Signal::USR1);
        server.wait_for("told worker=");
        let ended = if round % 2 == 0 {
            server.stop(Signal::TERM)
        } else {
            server.stop(Signal::INT)
        };
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
        let said = |signal: &str| {
            let said = format!("{signal} was blocked when the server was started");
            ended.lines(&said).count()
        };
        for signal in ["SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGUSR1"] {
            assert_eq!(said(signal), 1, "{signal}: {:#?}", ended.log);
        }
        assert_closed(address);
    }
}

/// The end of a process is known by its own descriptor: nothing else tells of one that dies without a word.
#[test]
fn a_worker_that_dies_is_missed_although_sigchld_is_blocked() {
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_blocks_signals"));
    launcher
        .args(["SIGCHLD", PLAIN, "--isolation", "process"])
        .args(["--on-failure", "restart"]);
    let mut server = Running::start(&mut launcher);
    server.wait_until_ready();
    for _ in 0..3 {
        kill_process(server.wait_for_child(), Signal::KILL).unwrap();
        server.wait_for("killed by SIGKILL");
        server.wait_for("is ready");
    }
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// All deadlines move by the time for which the supervisor was out.
fn a_suspended_server_goes_on(isolation: &str) {
    let mut server = Running::start(&mut command(PLAIN, isolation, "--hang-timeout 1000"));
    let address = server.wait_until_ready();
    server.signal(Signal::STOP);
    // That time passes is what is tested.
    let until = Instant::now() + Duration::from_secs(3);
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    server.signal(Signal::CONT);
    drop(connect(address));
    assert_graceful(&server.stop(Signal::TERM), "SIGTERM");
    assert_closed(address);
}

#[test]
fn a_stopped_worker_is_reported_and_goes_on() {
    let mut server = Running::start(&mut command(PLAIN, "process", ""));
    let worker = pid_in(&server.wait_for("set up"));
    let address = server.wait_until_ready();
    kill_process(worker, Signal::STOP).expect("the worker is there");
    server.wait_for("has been blocked for");
    kill_process(worker, Signal::CONT).expect("the worker is there");
    server.wait_for("turns again");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_closed(address);
}

aioxide_tests::under_both_isolations! {
    a_closed_terminal_stops_the_server,
    a_supervisor_on_a_terminal_is_not_replaced,
    a_closed_terminal_stops_a_server_that_logs_to_it,
    a_log_that_nobody_reads_does_not_outlast_the_deadline,
    ctrl_c_on_a_terminal_stops_the_server,
    ctrl_z_on_a_terminal_suspends_the_supervisor,
    without_free_descriptors_a_terminal_is_not_gone,
    in_the_background_of_a_terminal_nothing_is_scaled,
    without_a_terminal_and_without_standard_streams,
    as_process_1_with_stray_children,
    a_grandchild_is_no_worker,
    what_process_1_adopts_is_no_worker,
    few_descriptors_are_an_error_that_says_so,
    blocked_signals_are_unblocked,
    a_suspended_server_goes_on,
}
