//! Thread workers that hand connections to the one that has the fewest.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use aioxide_tests::http::{self, ask, response};
use aioxide_tests::{Folder, PATIENCE, Running, Signal, connect};

fn web(args: &str) -> Running {
    http::server(env!("CARGO_BIN_EXE_web"), "thread", args)
}

fn address_in(ready: &str) -> SocketAddr {
    let address = ready.split("listening on ").nth(1);
    let address = address.and_then(|rest| rest.split(',').next());
    address.expect("two addresses").parse().expect("an address")
}

/// The worker that a connection is with.
fn worker(stream: &mut (impl Read + Write)) -> usize {
    ask(stream, "/worker");
    let (_, worker) = response(stream).expect("it is answered");
    worker.parse().expect("an index")
}

/// So many open connections, and how many of them each of four workers has.
fn spread<S: Read + Write>(count: usize, open: impl Fn() -> S) -> (Vec<S>, [usize; 4]) {
    let mut counts = [0; 4];
    let streams = (0..count).map(|_| {
        let mut stream = open();
        counts[worker(&mut stream)] += 1;
        stream
    });
    (streams.collect(), counts)
}

#[test]
fn connections_that_last_are_the_same_number_for_each_worker() {
    let folder = Folder::new();
    let path = folder.file("web.sock");
    let args = format!("--workers 4 --balance --unix {}", path.display());
    let mut server = web(&args);
    let address = address_in(&server.wait_for("ready, listening on"));
    let (mut open, counts) = spread(16, || connect(address));
    assert_eq!(counts, [4, 4, 4, 4]);
    let (unix, counts) = spread(16, || UnixStream::connect(&path).expect("it accepts"));
    assert_eq!(counts, [4, 4, 4, 4], "each address counts for itself");

    // Once its clients are gone, a worker has the fewest, whoever accepts.
    open.retain_mut(|stream| worker(stream) != 2);
    assert_eq!(open.len(), 12);
    let deadline = Instant::now() + PATIENCE;
    while worker(&mut connect(address)) != 2 {
        assert!(Instant::now() < deadline, "the others are handed more");
    }
    drop((open, unix));
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

/// Many at once, so that each worker accepts while the others hand connections to it.
#[test]
fn connections_that_come_at_once_are_spread_too() {
    let mut server = web("--workers 4 --balance");
    let address = server.wait_until_ready();
    let all: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| spread(16, || connect(address))))
            .collect();
        let clients = clients.into_iter();
        clients
            .map(|client| client.join().expect("no client panics"))
            .collect()
    });
    let mut counts = [0; 4];
    for (_, some) in &all {
        (0..4).for_each(|index| counts[index] += some[index]);
    }
    assert_eq!(counts, [64, 64, 64, 64]);
    drop(all);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

/// No worker has more than it may, and what all have no room for waits.
#[test]
fn workers_that_are_full_are_handed_nothing() {
    let mut server = web("--workers 4 --balance --max-connections 3");
    let address = server.wait_until_ready();
    let (mut open, counts) = spread(12, || connect(address));
    assert_eq!(counts, [3, 3, 3, 3]);
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = connect(address);
            ask(&mut stream, "/worker");
            stream
        })
        .collect();
    open.drain(..4);
    for mut stream in waiting {
        response(&mut stream).expect("there is room again");
        open.push(stream);
    }
    drop(open);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
}

#[test]
fn it_is_refused_for_processes() {
    let server = http::server(env!("CARGO_BIN_EXE_web"), "process", "--balance");
    let ended = server.wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    let told = "`balance` is for thread workers, and `isolation` is `process`; allowed with it is `isolation = thread`";
    assert_eq!(ended.lines(told).count(), 1, "{:#?}", ended.log);
}
