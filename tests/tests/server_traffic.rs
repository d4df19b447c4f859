//! Connections while workers come and go.
//!
//! `AIOXIDE_TEST_CONNECTIONS=2000` makes the rolling restarts last for as few short connections.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::{Running, Signal, assert_closed, assert_graceful};

/// A connection that isn't served within this time has been forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

fn traffic(isolation: &str, args: &str) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_traffic"))
            .args(["--isolation", isolation])
            .args(args.split_whitespace()),
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Ok,
    Reset,
    Refused,
    TimedOut,
}

/// How often each outcome was seen.
type Outcomes = BTreeMap<Outcome, usize>;

fn outcome(result: std::io::Result<()>) -> Outcome {
    match result.map_err(|error| error.kind()) {
        Ok(()) => Outcome::Ok,
        Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof) => {
            Outcome::Reset
        }
        Err(ErrorKind::ConnectionRefused) => Outcome::Refused,
        Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Outcome::TimedOut,
        Err(kind) => panic!("a connection failed: {kind}"),
    }
}

/// A connection that has sent what it wants.
fn ask(address: SocketAddr, wanted: u8) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, FORGOTTEN)?;
    stream.set_read_timeout(Some(FORGOTTEN))?;
    stream.write_all(&[wanted])?;
    Ok(stream)
}

fn expect(stream: &mut TcpStream, wanted: u8) -> std::io::Result<()> {
    let mut reply = [0];
    stream.read_exact(&mut reply)?;
    assert_eq!(reply, [wanted]);
    Ok(())
}

fn short(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = ask(address, b'e')?;
    expect(&mut stream, b'e')?;
    assert_eq!(stream.read(&mut [0])?, 0);
    Ok(())
}

/// Accepted and waiting for the worker's stop.
fn long(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = ask(address, b'h')?;
    expect(&mut stream, b'h')?;
    Ok(stream)
}

/// The worker says goodbye and closes.
fn drained(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(None)?;
    expect(&mut stream, b'b')?;
    assert_eq!(stream.read(&mut [0])?, 0);
    Ok(())
}

fn total(all: impl IntoIterator<Item = Outcome>) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for outcome in all {
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}

fn rolling_restarts_lose_nothing(isolation: &str) {
    let connections = aioxide_tests::asked("AIOXIDE_TEST_CONNECTIONS", 20_000);
    let held = connections / 200;

    let mut server = traffic(isolation, "--workers 2");
    let address = server.wait_until_ready();
    let (started, busy) = (AtomicUsize::new(0), AtomicUsize::new(4));
    let stopping = AtomicBool::new(false);
    let (short_ones, long_ones, ended) = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    while started.fetch_add(1, Relaxed) < connections {
                        outcomes.push(outcome(short(address)));
                    }
                    busy.fetch_sub(1, Relaxed);
                    outcomes
                })
            })
            .collect();
        let holders: Vec<_> = (0..held)
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    loop {
                        let accepted = long(address);
                        if accepted.is_err() && stopping.load(Relaxed) {
                            return outcomes;
                        }
                        outcomes.push(outcome(accepted.and_then(drained)));
                    }
                })
            })
            .collect();

        let mut rolls = 0;
        while busy.load(Relaxed) > 0 || rolls < 3 {
            server.signal(Signal::HUP);
            server.wait_for("rolling restart done");
            rolls += 1;
        }
        stopping.store(true, Relaxed);
        let ended = server.stop(Signal::TERM);
        let join = |threads: Vec<thread::ScopedJoinHandle<'_, Vec<Outcome>>>| {
            total(
                threads
                    .into_iter()
                    .flat_map(|thread| thread.join().expect("no client panics")),
            )
        };
        (join(clients), join(holders), ended)
    });

    assert_graceful(&ended);
    assert_eq!(short_ones, Outcomes::from([(Outcome::Ok, connections)]));
    assert!(long_ones[&Outcome::Ok] >= held);
    assert_eq!(long_ones.len(), 1, "{long_ones:?}");
    assert_closed(address);
}

/// Of one worker that is blocked and then dies, only the accepted connections are lost.
fn a_crash_spares_the_backlog(isolation: &str) {
    let mut server = traffic(isolation, "--workers 1 --on-failure restart");
    let address = server.wait_until_ready();
    let mut accepted = long(address).expect("the server accepts");
    let mut fatal = ask(address, b'f').expect("the server accepts");
    expect(&mut fatal, b'f').expect("the server replies");
    let waiting: Vec<TcpStream> = (0..50)
        .map(|_| ask(address, b'e').expect("the kernel accepts"))
        .collect();
    fatal.write_all(b"!").expect("the worker waits for it");

    let lost = accepted.read(&mut [0]);
    assert!(
        matches!(&lost, Ok(0)) || lost.is_err(),
        "an accepted connection goes with its worker: {lost:?}"
    );
    let served = waiting
        .into_iter()
        .map(|mut stream| outcome(expect(&mut stream, b'e')));
    assert_eq!(total(served), Outcomes::from([(Outcome::Ok, 50)]));
    drop(accepted);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_closed(address);
}

/// What waits in the backlog is the successor's, and each client has one connection open.
fn crashes_under_load_lose_only_what_was_accepted(isolation: &str) {
    const CLIENTS: usize = 8;
    const CRASHES: usize = 4;
    let mut server = traffic(isolation, "--workers 2 --on-failure restart");
    let address = server.wait_until_ready();
    let done = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    while !done.load(Relaxed) {
                        outcomes.push(outcome(short(address)));
                    }
                    outcomes
                })
            })
            .collect();
        for _ in 0..CRASHES {
            // Goes to either worker, and dies with it; lost it may be by a crash before.
            if let Ok(mut fatal) = ask(address, b'f') {
                let _ = expect(&mut fatal, b'f').and_then(|()| fatal.write_all(b"!"));
            }
            server.wait_for("is started again in");
            server.wait_for("is ready");
        }
        done.store(true, Relaxed);
        total(
            clients
                .into_iter()
                .flat_map(|client| client.join().expect("no client panics")),
        )
    });
    assert!(outcomes[&Outcome::Ok] > 0);
    assert_eq!(outcomes.get(&Outcome::Refused), None, "{outcomes:?}");
    assert_eq!(outcomes.get(&Outcome::TimedOut), None, "{outcomes:?}");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let accepted: usize = ended.lines("crashes open=").map(open).sum();
    let lost = outcomes.get(&Outcome::Reset).copied().unwrap_or(0);
    let most = accepted.min(CLIENTS * CRASHES);
    assert!(lost <= most, "{most}, {outcomes:?}: {:#?}", ended.log);
    assert_closed(address);
}

/// Worker 0 crashes under load and can't be started again, with backoffs of up to 10 s: its sibling accepts from its
/// socket, what already waits there included. `AIOXIDE_TEST_SECONDS=40` makes it last so long.
#[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
fn a_crash_loop_loses_only_what_was_accepted(isolation: &str) {
    const CLIENTS: usize = 8;
    /// Nobody waits for a backoff: the third lasts 400 ms, those after it longer.
    const WAIT: Duration = Duration::from_millis(350);
    let lasts = Duration::from_secs(aioxide_tests::asked("AIOXIDE_TEST_SECONDS", 4));
    let args = "--workers 2 --on-failure restart --max-restarts 100 --broken-from 1";
    let mut server = traffic(isolation, args);
    let address = server.wait_until_ready();
    let mut fatal = fatal_to_worker_0(address);
    // Its event loop is blocked, so what comes to it from here on waits in its backlog.
    let waiting: Vec<TcpStream> = (0..50)
        .map(|_| ask(address, b'e').expect("the kernel accepts"))
        .collect();
    let until = Instant::now() + lasts;
    let (outcomes, slow, served) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let (mut outcomes, mut slow) = (Vec::new(), 0);
                    while Instant::now() < until {
                        let start = Instant::now();
                        outcomes.push(outcome(short(address)));
                        slow += usize::from(start.elapsed() > WAIT);
                    }
                    (outcomes, slow)
                })
            })
            .collect();
        fatal.write_all(b"!").expect("the worker waits for it");
        server.wait_for("worker 0 is started again in");
        let served = waiting
            .into_iter()
            .map(|mut stream| outcome(expect(&mut stream, b'e')));
        let served = total(served);
        let clients = clients
            .into_iter()
            .map(|client| client.join().expect("no client panics"));
        let (outcomes, slow): (Vec<_>, Vec<usize>) = clients.unzip();
        (total(outcomes.concat()), slow.iter().sum::<usize>(), served)
    });
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let accepted: usize = ended.lines("crashes open=").map(open).sum();
    println!(
        "{isolation}: {outcomes:?}, {slow} slow, of the backlog {served:?}, {accepted} accepted"
    );
    assert_eq!(served, Outcomes::from([(Outcome::Ok, 50)]));
    let lost = outcomes.get(&Outcome::Reset).copied().unwrap_or(0);
    assert!(lost <= accepted, "{accepted} were accepted: {outcomes:?}");
    assert!(outcomes[&Outcome::Ok] > 100, "{outcomes:?}");
    assert_eq!(outcomes.get(&Outcome::Refused), None, "{outcomes:?}");
    assert_eq!(outcomes.get(&Outcome::TimedOut), None, "{outcomes:?}");
    // Some had to wait for the crash itself.
    assert!(slow <= CLIENTS, "{slow} waited: {outcomes:?}");
    assert_closed(address);
}

/// How many connections went with a worker, as it logs them.
fn open(line: &str) -> usize {
    let open = line.rsplit("open=").next().and_then(|n| n.parse().ok());
    open.unwrap_or_else(|| panic!("no number in `{line}`"))
}

/// A connection of worker 0, which ends with whoever writes to it.
fn fatal_to_worker_0(address: SocketAddr) -> TcpStream {
    let mut fatal = loop {
        let mut stream = ask(address, b'i').expect("the server accepts");
        let mut index = [0];
        stream.read_exact(&mut index).expect("the server replies");
        if index == [0] {
            break stream;
        }
    };
    fatal.write_all(b"f").expect("the server reads");
    expect(&mut fatal, b'f').expect("the server replies");
    fatal
}

/// While worker 0 can't be started again, its sibling serves every new connection. A socket that can't be lent is
/// parked for that.
fn a_vacant_slot_swallows_no_connection(isolation: &str) {
    let args = "--workers 2 --on-failure restart --max-restarts 100 --broken-from 1 --own-listener";
    let mut server = traffic(isolation, args);
    let address = server.wait_until_ready();
    let mut fatal = fatal_to_worker_0(address);
    fatal.write_all(b"!").expect("the worker waits for it");
    server.wait_for("worker 0 is started again in");
    let until = Instant::now() + Duration::from_secs(4);
    let mut slowest = Duration::ZERO;
    let mut outcomes = Outcomes::new();
    while Instant::now() < until {
        let start = Instant::now();
        *outcomes.entry(outcome(short(address))).or_default() += 1;
        slowest = slowest.max(start.elapsed());
    }
    assert!(
        slowest < Duration::from_millis(1500),
        "one waited for {slowest:?}; {outcomes:?}"
    );
    // The client has one connection at a time. When the slot's backlog is given up, after three failures,
    // that one may wait there.
    let lost = outcomes.get(&Outcome::Reset).copied().unwrap_or(0);
    assert!(lost <= 1, "{outcomes:?}");
    assert_eq!(outcomes.get(&Outcome::Refused), None, "{outcomes:?}");
    assert_eq!(outcomes.get(&Outcome::TimedOut), None, "{outcomes:?}");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_closed(address);
}

aioxide_tests::under_both_isolations! {
    rolling_restarts_lose_nothing,
    a_crash_spares_the_backlog,
    crashes_under_load_lose_only_what_was_accepted,
    a_vacant_slot_swallows_no_connection,
    a_crash_loop_loses_only_what_was_accepted,
}
