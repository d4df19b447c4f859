//! `aioxide::logging` in real servers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::{PATIENCE, Running, Signal, outlast_repeated_signals, under_both_isolations};
use serde_json::Value;

fn logged(isolation: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logged"));
    command.arg(isolation).args(args.split_whitespace());
    command
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn each_line_names_its_worker(isolation: &str) {
    let ended = Running::start(&mut logged(isolation, "")).wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    for worker in ["[worker 0]", "[worker 1]"] {
        let hello = format!("{worker}  INFO logged: hello");
        assert_eq!(ended.lines(&hello).count(), 1, "{:#?}", ended.log);
    }
    // What the supervisor says.
    assert!(
        ended.lines(" [-]  INFO aioxide").count() > 0,
        "{:#?}",
        ended.log
    );
}

fn json_names_the_worker(isolation: &str) {
    for (args, format) in [("", "json"), ("--own", "text")] {
        let mut command = logged(isolation, args);
        let ended = Running::start(command.env("AIOXIDE_LOG", format)).wait();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        let lines: Vec<Value> = ended.log.iter().map(|line| json(line)).collect();
        let hello = |line: &&Value| line["fields"]["message"] == "hello";
        let workers = lines.iter().filter(hello).map(|line| {
            assert_eq!(line["level"], "INFO");
            assert_eq!(line["target"], "logged");
            assert_eq!(line["fields"]["number"], 0);
            line["fields"]["worker"].as_u64().unwrap()
        });
        let mut workers: Vec<u64> = workers.collect();
        workers.sort_unstable();
        assert_eq!(workers, [0, 1], "{:#?}", ended.log);
        let ended = |line: &&Value| line["fields"]["message"] == "the server has ended";
        let ended: Vec<&Value> = lines.iter().filter(ended).collect();
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0]["fields"].get("worker"), None);
    }
}

fn an_unknown_format_is_text(isolation: &str) {
    let mut command = logged(isolation, "");
    let ended = Running::start(command.env("AIOXIDE_LOG", "yaml")).wait();
    let told = "AIOXIDE_LOG is not understood, `text` is used: `yaml` is neither `text` nor `json`";
    assert!(ended.lines(told).count() > 0, "{:#?}", ended.log);
    assert_eq!(ended.lines(" INFO logged: hello").count(), 2);
}

fn a_log_whose_pipe_is_closed_ends_no_server(isolation: &str) {
    let mut server = logged(isolation, "")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    drop(server.stderr.take());
    let status = server.wait().expect("the server can be waited for");
    assert_eq!(status.code(), Some(0));
}

/// How many lines each worker logs: far more than a queue takes.
const MANY: u64 = 30_000;

/// Whose workers have logged far more than a pipe takes, while nobody has read it.
struct Unread(Child);

impl Drop for Unread {
    /// Leaves no process behind when a test fails.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Unread {
    fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
    }
}

fn unread(isolation: &str) -> Unread {
    let mut server = logged(isolation, &format!("--stay --lines {MANY}"))
        .env("AIOXIDE_LOG", "json")
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let done = BufReader::new(server.stdout.take().unwrap()).lines();
    let server = Unread(server);
    let done: Vec<String> = done.take(2).map(Result::unwrap).collect();
    assert_eq!(done, ["done", "done"]);
    server
}

fn a_log_that_nobody_reads_holds_up_no_server(isolation: &str) {
    let mut server = unread(isolation);
    let stopped = Instant::now();
    server.stop();
    let status = server.0.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    // Far less than the shutdown timeout, which nothing of this is to use.
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

fn what_is_lost_is_counted_and_told(isolation: &str) {
    let mut server = unread(isolation);
    let log = BufReader::new(server.0.stderr.take().unwrap());
    let (sender, lines) = channel();
    thread::spawn(move || {
        log.lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    let (mut kept, mut lost) = (0, 0);
    while kept + lost < 2 * MANY {
        let line = lines.recv_timeout(PATIENCE);
        let line = json(&line.unwrap_or_else(|error| panic!("{error}: {kept} kept, {lost} lost")));
        if line["fields"]["message"] == "hello" {
            kept += 1;
        } else if line["target"] == "aioxide::logging" {
            assert_eq!(line["level"], "ERROR");
            lost += line["fields"]["lost"].as_u64().unwrap();
        }
    }
    // A few of the supervisor's lines may be lost, too.
    assert!(kept + lost < 2 * MANY + 20, "{kept} kept, {lost} lost");
    assert!(kept > 1_000 && lost > 1_000, "{kept} kept, {lost} lost");
    server.stop();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

fn the_last_lines_are_written_at_a_graceful_end(isolation: &str) {
    let mut server = Running::start(&mut logged(isolation, "--stay"));
    server.wait_for_all(&["[worker 0]", "[worker 1]", "workers are ready"]);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let last = &ended.log[ended.log.len() - 2..];
    assert!(last[0].contains("the server has ended"), "{last:?}");
    assert!(last[1].contains("bye"), "{last:?}");
}

fn the_last_lines_are_written_at_a_forced_end(isolation: &str) {
    let mut server = Running::start(&mut logged(isolation, "--stay --stubborn"));
    server.wait_for_all(&["[worker 0]", "[worker 1]", "workers are ready"]);
    server.signal(Signal::TERM);
    outlast_repeated_signals();
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(143), "{:#?}", ended.log);
    let last = &ended.log[ended.log.len() - 2..];
    assert!(last[0].contains("the server has ended"), "{last:?}");
    assert!(last[1].contains("bye"), "{last:?}");
}

fn the_last_lines_are_written_when_a_worker_calls_exit(isolation: &str) {
    // They fit into a pipe, so that their reader need not keep up.
    let ended = Running::start(&mut logged(isolation, "--lines 300 --exit 7")).wait();
    let expected = if isolation == "thread" { 7 } else { 1 };
    assert_eq!(ended.code, Some(expected), "{:#?}", ended.log);
    let complete = ["[worker 0]", "[worker 1]"].iter().filter(|worker| {
        let last = ended.lines(worker).last();
        last.is_some_and(|line| line.contains("hello number=299"))
    });
    // The first to call it ends the other thread, or stops the other process.
    assert!(complete.count() >= 1, "{:#?}", ended.log);
}

under_both_isolations!(
    each_line_names_its_worker,
    json_names_the_worker,
    an_unknown_format_is_text,
    a_log_whose_pipe_is_closed_ends_no_server,
    a_log_that_nobody_reads_holds_up_no_server,
    what_is_lost_is_counted_and_told,
    the_last_lines_are_written_at_a_graceful_end,
    the_last_lines_are_written_at_a_forced_end,
    the_last_lines_are_written_when_a_worker_calls_exit,
);
