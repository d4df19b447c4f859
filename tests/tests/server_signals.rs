//! Signals: to the supervisor, to its workers, to all at once, and at any time.
//!
//! More rounds of signals at random times than the usual 40, in other orders:
//!
//! ```sh
//! AIOXIDE_TEST_ROUNDS=500 cargo test -p aioxide-tests --test server_signals random_times
//! ```

use std::process::Command;
use std::thread;
use std::time::Duration;

use aioxide_tests::dice::Dice;
use aioxide_tests::{
    Ended, Running, Signal, assert_closed, assert_graceful, outlast_repeated_signals, pid_in,
};
use rustix::process::{Pid, kill_process};

fn command(isolation: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plain"));
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace());
    command
}

fn plain(isolation: &str, args: &str) -> Running {
    Running::start(&mut command(isolation, args))
}

fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("the process is there");
}

#[track_caller]
fn assert_torn_down(ended: &Ended, workers: usize, why: &str) {
    let why = format!("torn down: stopped: {why} worker=");
    assert_eq!(ended.lines(&why).count(), workers, "{:#?}", ended.log);
    assert_eq!(
        ended.lines("torn down").count(),
        workers,
        "{:#?}",
        ended.log
    );
}

/// Up to four signals of which the last asks to stop. In half of the rounds that one is sent to the workers too,
/// and in every tenth the server is ready, too slow, and asked a second time.
fn signals_at_random_times_always_end_it(isolation: &str) {
    let rounds = aioxide_tests::rounds(40);
    let mut dice = Dice::new(rounds);
    for round in 0..rounds {
        let (slow, is_forced) = (dice.roll(2) * 20, round % 10 == 9);
        let slow_stop = if is_forced { 15_000 } else { 0 };
        let args = format!("--slow-start {slow} --slow-stop {slow_stop} --workers 2");
        let mut server = plain(isolation, &args);
        if is_forced {
            // One that is stopped before that ends at once.
            server.wait_until_ready();
        }
        let mut sent = vec![Signal::TERM];
        for _ in 0..dice.roll(4) {
            // That it comes at any time is what is tested.
            thread::sleep(Duration::from_micros(dice.roll(40_000)));
            let signal = dice.one_of(&[Signal::HUP, Signal::USR1, Signal::TTIN, Signal::TTOU]);
            server.signal(signal);
            sent.push(signal);
        }
        thread::sleep(Duration::from_micros(dice.roll(60_000)));
        // Not SIGINT: what a shell starts in the background begins by ignoring it.
        let to_workers = dice.roll(2) == 1;
        let workers_first = dice.roll(2) == 1;
        if to_workers && workers_first {
            terminate_workers(&server);
        }
        server.signal(Signal::TERM);
        // SIGTTIN and SIGTTOU suspend a program that doesn't handle them yet.
        server.signal(Signal::CONT);
        if to_workers && !workers_first {
            terminate_workers(&server);
        }
        if is_forced {
            server.wait_for("stopping: SIGTERM");
            outlast_repeated_signals();
            server.signal(Signal::TERM);
        }
        let ended = server.wait();
        let told = format!("round {round}, {sent:?}: {:#?}", ended.log);
        match (ended.code, ended.signal) {
            // Until the server's handlers are there, signals do what they do to any program.
            (None, Some(by)) => {
                assert!(sent.iter().any(|sent| sent.as_raw() == by), "{by}, {told}");
                assert_eq!(ended.lines("init").count(), 0, "{told}");
            }
            (code, _) if is_forced => assert_eq!(code, Some(143), "{told}"),
            (code, _) => assert_eq!((code, ended.errors()), (Some(0), Vec::new()), "{told}"),
        }
    }
}

/// As a service manager does that stops all processes; those that have ended since have.
fn terminate_workers(server: &Running) {
    for pid in server.children() {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Of several that have come by the time it looks: whatever else was asked for isn't begun any more.
fn stop_signals_are_read_before_others(isolation: &str) {
    const ROUNDS: usize = 9;
    let mut begun = 0;
    for _ in 0..ROUNDS {
        let mut server = plain(isolation, "");
        let address = server.wait_until_ready();
        server.signal(Signal::STOP);
        for signal in [Signal::HUP, Signal::TTIN, Signal::USR1, Signal::TERM] {
            server.signal(signal);
        }
        server.signal(Signal::CONT);
        let ended = server.wait();
        assert_graceful(&ended);
        let other = ["rolling restart", "number of workers changed"];
        begun += usize::from(other.iter().any(|line| ended.lines(line).count() > 0));
        assert_closed(address);
    }
    // The kernel gives signals that wait to any thread, so that now and then one of the others is there before.
    assert!(begun <= ROUNDS / 3, "{begun} of {ROUNDS}");
}

fn gnu_timeout_signals_twice(isolation: &str) {
    let inner = command(isolation, "--slow-stop 700");
    let mut server = Running::start(
        Command::new("timeout")
            .arg("600")
            .arg(inner.get_program())
            .args(inner.get_args()),
    );
    let address = server.wait_until_ready();
    // Passed on to the server, and to its group, which is timeout's own.
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_torn_down(&ended, 2, "SIGTERM");
    assert_closed(address);
}

/// As systemd stops a control group, in any order.
fn everyone_is_signalled_at_once(isolation: &str) {
    for supervisor_first in [true, false] {
        let mut server = plain(isolation, "--slow-stop 200");
        let workers = [(); 2].map(|()| pid_in(&server.wait_for("set up")));
        let address = server.wait_until_ready();
        if supervisor_first {
            server.signal(Signal::TERM);
        }
        for pid in workers {
            send(pid, Signal::TERM);
        }
        if !supervisor_first {
            server.signal(Signal::TERM);
        }
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
        for worker in 0..2 {
            let told = format!("torn down: stopped: SIGTERM worker={worker}");
            assert_eq!(ended.lines(&told).count(), 1, "{:#?}", ended.log);
        }
        assert_closed(address);
    }
}

#[test]
fn a_worker_that_is_asked_to_stop_gets_a_successor() {
    for (signal, name, stop, args) in [
        (Signal::TERM, "SIGTERM", Signal::INT, ""),
        (Signal::INT, "SIGINT", Signal::INT, ""),
        (Signal::QUIT, "SIGQUIT", Signal::QUIT, "--stop-signal QUIT"),
    ] {
        let mut server = plain("process", args);
        let first = server.wait_for("set up");
        let address = server.wait_until_ready();
        send(pid_in(&first), signal);
        server.wait_for("rolling restart done");
        let ended = server.stop(stop);
        assert_graceful(&ended);
        let of_first = format!("torn down: stopped: {name} worker=");
        assert!(ended.lines(&of_first).count() >= 1, "{:#?}", ended.log);
        assert_eq!(ended.lines("torn down: stopped: SIG").count(), 3);
        assert_closed(address);
    }
}

/// Workers are not to be moved by the signals that mean something to the supervisor.
#[test]
fn a_worker_swallows_other_signals() {
    let mut server = plain("process", "");
    let first = server.wait_for("set up");
    let address = server.wait_until_ready();
    for signal in [Signal::HUP, Signal::USR1, Signal::TTIN, Signal::TTOU] {
        send(pid_in(&first), signal);
    }
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_torn_down(&ended, 2, "SIGTERM");
    assert_eq!(ended.lines("told").count(), 0);
    assert_closed(address);
}

/// Killed before it could say that it was asked to leave, a worker is started again, and nothing has failed.
#[test]
fn a_worker_that_is_killed_by_a_stop_signal_at_its_start_has_not_failed() {
    let mut server = plain("process", "--before-run 300");
    send(server.wait_for_child(), Signal::TERM);
    let address = server.wait_until_ready();
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_closed(address);
}

fn usr1_is_told_to_every_worker(isolation: &str) {
    let mut server = plain(isolation, "");
    let address = server.wait_until_ready();
    server.signal(Signal::USR1);
    let told = [(); 2].map(|()| server.wait_for("told"));
    for worker in 0..2 {
        let here = format!("told worker={worker} here=Some({worker}) elsewhere=Ok(Some({worker}))");
        assert!(told.iter().any(|line| line.contains(&here)), "{told:?}");
    }
    assert_graceful(&server.stop(Signal::TERM));
    assert_closed(address);
}

fn the_number_of_workers_follows_ttin_and_ttou(isolation: &str) {
    let mut server = plain(isolation, "--workers 1");
    let address = server.wait_until_ready();
    server.signal(Signal::TTOU);
    server.wait_for("number of workers is at its limit workers=1");
    server.signal(Signal::TTIN);
    server.wait_for("number of workers changed from=1 to=2");
    server.wait_for("set up worker=1 generation=0 count=2");
    server.wait_for("worker 1 is ready");
    server.signal(Signal::TTOU);
    server.wait_for("number of workers changed from=2 to=1");
    server.wait_for("torn down: stopped: scaled down worker=1");
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(
        ended.lines("torn down: stopped: SIGTERM worker=0").count(),
        1
    );
    assert_closed(address);
}

fn after_nohup_a_hang_up_is_ignored(isolation: &str) {
    let inner = command(isolation, "");
    let mut server = Running::start(
        Command::new("nohup")
            .arg(inner.get_program())
            .args(inner.get_args()),
    );
    let address = server.wait_until_ready();
    server.signal(Signal::HUP);
    server.signal(Signal::USR1);
    server.wait_for("told");
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines("rolling restart").count(), 0);
    assert_torn_down(&ended, 2, "SIGTERM");
    assert_closed(address);
}

/// The server's own choice of them, in the place of those that stop by default.
fn stop_signals_are_what_the_server_says(isolation: &str) {
    let mut server = plain(isolation, "--stop-signal QUIT");
    let address = server.wait_until_ready();
    let ended = server.stop(Signal::QUIT);
    assert_graceful(&ended);
    assert_torn_down(&ended, 2, "SIGQUIT");
    assert_closed(address);
}

/// Also when the time would have been enough for an orderly stop.
fn a_second_signal_forces(isolation: &str) {
    for (signal, code, args) in [
        (Signal::TERM, 143, ""),
        (Signal::INT, 130, ""),
        (Signal::QUIT, 131, "--stop-signal QUIT"),
    ] {
        let mut server = plain(isolation, &format!("--slow-stop 15000 {args}"));
        let address = server.wait_until_ready();
        server.signal(signal);
        server.wait_for("stopping: ");
        outlast_repeated_signals();
        let ended = server.stop(signal);
        assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
        assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
        assert_closed(address);
    }
}

aioxide_tests::under_both_isolations! {
    signals_at_random_times_always_end_it,
    stop_signals_are_read_before_others,
    gnu_timeout_signals_twice,
    everyone_is_signalled_at_once,
    usr1_is_told_to_every_worker,
    the_number_of_workers_follows_ttin_and_ttou,
    after_nohup_a_hang_up_is_ignored,
    stop_signals_are_what_the_server_says,
    a_second_signal_forces,
}
