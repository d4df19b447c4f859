//! A timer with `single` in a server: one worker runs it at a time, and whatever becomes of workers, no due time is lost
//! or repeated.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;

use aioxide_tests::{
    Ended, Folder, Running, Signal, assert_graceful, pid_in, under_both_isolations,
};
use rustix::process::kill_process;

struct Server {
    running: Running,
    _folder: Folder,
}

fn start(isolation: &str, args: &str) -> Server {
    let folder = Folder::new();
    let lock = folder.file("lock");
    File::create(&lock).expect("a file can be made");
    let running = Running::start(
        Command::new(env!("CARGO_BIN_EXE_singles"))
            .args(["--isolation", isolation, "--lock"])
            .arg(&lock)
            .args(args.split_whitespace()),
    );
    Server {
        running,
        _folder: folder,
    }
}

/// The number after `key`, inside a line.
#[track_caller]
fn number(line: &str, key: &str) -> u64 {
    let rest = line.split(key).nth(1);
    rest.and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in `{line}`"))
}

impl Server {
    /// Waits for the start of a tick, and gives its line.
    fn tick(&mut self) -> String {
        self.running.wait_for("start due=")
    }

    fn ticks(&mut self, count: usize) -> String {
        (1..count).for_each(|_| drop(self.tick()));
        self.tick()
    }

    /// Waits until another than `worker` in its `generation` runs the timer.
    fn tick_of_another(&mut self, line: &str) -> String {
        let who = line.split("worker=").nth(1).expect("it tells who");
        loop {
            let line = self.tick();
            if !line.contains(who) {
                return line;
            }
        }
    }

    fn stop(self) -> Ended {
        self.running.stop(Signal::TERM)
    }
}

/// Each due time of the grid was started once, from the first to the last.
#[track_caller]
fn assert_each_once(ended: &Ended, interval: u64) {
    assert_eq!(ended.lines("two at once").count(), 0, "{:#?}", ended.log);
    let dues: Vec<u64> = ended
        .lines("start due=")
        .map(|line| number(line, "due="))
        .collect();
    let expected: Vec<u64> = (0..dues.len() as u64)
        .map(|k| dues[0] + k * interval)
        .collect();
    assert_eq!(dues, expected, "{:#?}", ended.log);
}

fn workers(ended: &Ended) -> BTreeSet<String> {
    let worker = |line: &str| line.split("worker=").nth(1).map(str::to_owned);
    ended.lines("start due=").filter_map(worker).collect()
}

fn one_of_the_workers_runs_it(isolation: &str) {
    for args in ["--workers 4", "--workers 4 --blocking"] {
        let mut server = start(isolation, args);
        server.ticks(20);
        let ended = server.stop();
        assert_graceful(&ended);
        assert_each_once(&ended, 50);
        assert_eq!(workers(&ended).len(), 1, "{:#?}", ended.log);
    }
}

fn a_roll_hands_it_over(isolation: &str) {
    for args in ["--workers 3", "--workers 1", "--workers 2 --leaves-it"] {
        let mut server = start(isolation, args);
        server.ticks(5);
        server.running.signal(Signal::HUP);
        server.running.wait_for("rolling restart done");
        let line = server.ticks(5);
        assert_eq!(number(&line, "generation="), 1, "{line}");
        let ended = server.stop();
        assert_graceful(&ended);
        assert_each_once(&ended, 50);
    }
}

/// The one that runs it, each time.
fn a_worker_that_fails_is_succeeded(isolation: &str) {
    let mut server = start(isolation, "--workers 3 --on-failure restart");
    let first = server.ticks(3);
    server.running.signal(Signal::USR1);
    server.tick_of_another(&first);
    server.ticks(3);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.lines("told to fail").count(), 1, "{:#?}", ended.log);
    assert_each_once(&ended, 50);
}

fn a_scale_down_hands_it_over(isolation: &str) {
    let mut server = start(isolation, "--workers 2 --zero-waits");
    let line = server.ticks(3);
    assert_eq!(number(&line, "worker="), 1, "{line}");
    server.running.wait_until_logged("2 workers are ready");
    server.running.signal(Signal::TTOU);
    let line = server.tick_of_another(&line);
    assert_eq!(number(&line, "worker="), 0, "{line}");
    server.ticks(5);
    let ended = server.stop();
    assert_graceful(&ended);
    assert_each_once(&ended, 50);
}

fn a_timer_by_the_calendar_is_handed_over_too(isolation: &str) {
    let mut server = start(isolation, "--workers 2 --calendar --on-failure restart");
    let first = server.ticks(2);
    server.running.signal(Signal::USR1);
    server.tick_of_another(&first);
    server.running.wait_until_logged("told to fail");
    server.running.signal(Signal::HUP);
    server.running.wait_for("rolling restart done");
    server.ticks(2);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_each_once(&ended, 1000);
}

under_both_isolations!(
    one_of_the_workers_runs_it,
    a_roll_hands_it_over,
    a_worker_that_fails_is_succeeded,
    a_scale_down_hands_it_over,
    a_timer_by_the_calendar_is_handed_over_too,
);

/// Right after a tick has told its start: what it has recorded just before is known.
#[test]
fn a_worker_that_is_killed_is_succeeded() {
    let args = "--workers 3 --on-failure restart --max-restarts 100 --interval 100 --length 50";
    let mut server = start("process", args);
    let mut line = server.ticks(3);
    for _ in 0..5 {
        kill_process(pid_in(&line), Signal::KILL).expect("it is there");
        line = server.tick_of_another(&line);
    }
    server.ticks(3);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_each_once(&ended, 100);
    assert_eq!(workers(&ended).len(), 6, "{:#?}", ended.log);
}

/// With `at_least_once` what was cut runs again under a newer token.
#[test]
fn what_a_killed_worker_left_undone_runs_again_if_it_is_to() {
    let args = "--workers 2 --on-failure restart --interval 100 --length 50 --at-least-once";
    let mut server = start("process", args);
    let line = server.ticks(3);
    kill_process(pid_in(&line), Signal::KILL).expect("it is there");
    let again = server.tick_of_another(&line);
    assert_eq!(number(&again, "due="), number(&line, "due="));
    assert!(number(&again, "token=") > number(&line, "token="));
    server.ticks(2);
    let ended = server.stop();
    assert_eq!(ended.lines("two at once").count(), 0, "{:#?}", ended.log);
    let mut dues: Vec<u64> = ended
        .lines("start due=")
        .map(|line| number(line, "due="))
        .collect();
    dues.dedup();
    assert!(
        dues.windows(2).all(|pair| pair[1] == pair[0] + 100),
        "{dues:?}"
    );
}

/// Long ticks aren't cut short by a handover: the successor waits for their end, which is that of their teardowns.
#[test]
fn a_successor_waits_for_the_ticks_of_its_predecessor() {
    for length in ["--length 150 --leaves-it", "--parting 150"] {
        let args = format!("--workers 1 --interval 200 {length}");
        let mut server = start("process", &args);
        server.ticks(2);
        for _ in 0..2 {
            server.running.signal(Signal::HUP);
            server.running.wait_for("rolling restart done");
            // Just after one, so that none is cut by the next roll before it has told its start.
            server.tick();
        }
        server.tick();
        let ended = server.stop();
        assert_graceful(&ended);
        assert_each_once(&ended, 200);
    }
}
