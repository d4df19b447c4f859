//! Connections for a worker whose event loop is blocked: a sibling accepts them.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::http::{self, ask, response};
use aioxide_tests::{Ended, Running, Signal, connect};

fn web(isolation: &str, args: &str) -> Running {
    http::server(env!("CARGO_BIN_EXE_web"), isolation, args)
}

/// How long a fresh connection waits for its answer.
fn wait(address: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut stream = connect(address);
    ask(&mut stream, "/");
    response(&mut stream).expect("it is answered");
    begun.elapsed()
}

/// A quarter of the connections go to the worker that is blocked.
fn connections_for_a_blocked_worker_are_accepted_by_its_siblings(isolation: &str) {
    nobody_waits_for_a_blocked_worker(isolation, "--workers 4");
}

/// Nor for what was handed to it before anybody knew.
#[test]
fn connections_handed_to_a_blocked_worker_are_taken_by_its_siblings() {
    nobody_waits_for_a_blocked_worker("thread", "--workers 4 --balance");
}

fn nobody_waits_for_a_blocked_worker(isolation: &str, args: &str) {
    const BLOCK: Duration = Duration::from_secs(3);
    let mut server = web(isolation, args);
    let address = server.wait_until_ready();
    let waits = Mutex::new(Vec::new());
    let mut stream = connect(address);
    ask(&mut stream, "/worker");
    let (_, worker) = response(&mut stream).expect("it is answered");
    thread::scope(|scope| {
        scope.spawn(move || {
            ask(&mut stream, &format!("/block/{}", BLOCK.as_millis()));
            response(&mut stream).expect("it comes to its end");
        });
        server.wait_for("blocks");
        let until = Instant::now() + BLOCK - Duration::from_millis(1000);
        let waits = &waits;
        for _ in 0..16 {
            scope.spawn(move || {
                while Instant::now() < until {
                    let waited = wait(address);
                    waits.lock().unwrap().push(waited);
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    let mut waits = waits.into_inner().unwrap();
    waits.sort();
    let late = waits
        .iter()
        .filter(|wait| **wait > Duration::from_millis(150));
    eprintln!(
        "{isolation}: {} connections, {} waited over 150 ms, the longest {:?}",
        waits.len(),
        late.count(),
        waits.last()
    );
    // Whoever waits for the blocked worker waits for a second at least, and other things take their time too.
    let longest = *waits.last().expect("some connections");
    assert!(longest < Duration::from_millis(900), "{longest:?}");
    server.wait_for(&format!("worker {worker} isn't blocked any more"));
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert_told_once(&ended, &worker);
}

/// That a worker is blocked is told once, and once that it isn't any more, for each time that it is. A loop that gets no time
/// on a machine that has none left is blocked too, so it may be so more often than by the request.
#[track_caller]
fn assert_told_once(ended: &Ended, worker: &str) {
    let (is, is_not) = ("is blocked", "isn't blocked any more");
    let told = |text: &str, line: &str| {
        line.contains(&format!("the event loop of worker {worker} {text}"))
    };
    let at = |text| {
        ended
            .log
            .iter()
            .position(|line| line.contains(text))
            .expect("it is logged")
    };
    let (blocks, goes_on) = (at(" blocks"), at(" goes on"));
    let during = &ended.log[blocks..goes_on];
    let during = |text| during.iter().filter(|line| told(text, line)).count();
    assert_eq!((during(is), during(is_not)), (1, 0), "{:#?}", ended.log);
    let lines = ended.log.iter();
    let all: Vec<bool> = lines
        .filter(|line| told(is, line) || told(is_not, line))
        .map(|line| told(is, line))
        .collect();
    assert!(
        all.chunks(2).all(|both| both == [true, false]),
        "{:#?}",
        ended.log
    );
}

/// None of the worker's own connections, nor of those in its backlog, is lost when it goes on.
fn a_worker_that_was_blocked_accepts_again(isolation: &str) {
    let mut server = web(isolation, "--workers 2");
    let address = server.wait_until_ready();
    for _ in 0..5 {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = connect(address);
                ask(&mut stream, "/block/300");
                response(&mut stream).expect("it comes to its end");
            });
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| _ = wait(address)));
            }
        });
    }
    let mut seen = [0, 0];
    while seen.contains(&0) {
        let mut stream = connect(address);
        ask(&mut stream, "/worker");
        let (_, worker) = response(&mut stream).expect("it is answered");
        seen[worker.parse::<usize>().unwrap()] += 1;
        assert!(seen.iter().sum::<usize>() < 1000, "{seen:?}");
    }
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

aioxide_tests::under_both_isolations! {
    connections_for_a_blocked_worker_are_accepted_by_its_siblings,
    a_worker_that_was_blocked_accepts_again,
}
