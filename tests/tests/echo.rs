//! The echo example as a real process, under real signals, with real clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::{Ended, PATIENCE, Running, Signal, address_in};
use rustix::process::{Resource, Rlimit};

fn echo(isolation: &str, args: &[&str]) -> Running {
    let program = env!("CARGO_BIN_EXE_echo-example");
    Running::start(
        Command::new(program)
            .args(["--isolation", isolation, "--listen", "127.0.0.1:0"])
            .args(args),
    )
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    stream
}

/// Sends `message` and takes it back.
fn exchange(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("the server reads");
    let mut reply = vec![0; message.len()];
    stream.read_exact(&mut reply).expect("the server replies");
    assert_eq!(reply, message);
}

fn assert_graceful(ended: &Ended, workers: usize, signal: &str) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    for worker in 0..workers {
        let teardown = format!("worker={worker} ");
        let mut torn_down = ended
            .lines("torn down")
            .filter(|line| line.contains(&teardown));
        let line = torn_down
            .next()
            .unwrap_or_else(|| panic!("worker {worker} is missing: {:#?}", ended.log));
        assert!(line.contains(signal), "{line}");
        assert_eq!(torn_down.next(), None);
    }
}

fn a_large_payload_comes_back_byte_for_byte(isolation: &str) {
    let mut server = echo(isolation, &[]);
    let address = server.wait_until_ready();
    let words = 10 * 1024 * 1024 / 4u32;
    let payload: Vec<u8> = (0..words)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();

    let mut stream = connect(address);
    let writer = thread::spawn({
        let (mut stream, payload) = (
            stream.try_clone().expect("a stream can be cloned"),
            payload.clone(),
        );
        move || {
            stream.write_all(&payload).expect("the server reads");
            stream
                .shutdown(Shutdown::Write)
                .expect("a stream can be shut down");
        }
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the server replies");
    writer.join().expect("the payload is written");
    assert!(back == payload, "{} bytes came back", back.len());

    assert_graceful(&server.stop(Signal::TERM), 4, "SIGTERM");
}

fn a_thousand_open_connections_are_served_by_all_workers(isolation: &str) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .expect("the test may open many files");

    let mut server = echo(isolation, &[]);
    let ready = server.wait_for("4 workers are ready, listening on ");
    let address = address_in(&ready);
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| connect(address)).collect();
    for (nth, stream) in streams.iter_mut().enumerate() {
        exchange(stream, format!("connection {nth}").as_bytes());
    }
    drop(streams);

    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended, 4, "SIGTERM");
    let served: Vec<u64> = ended.lines("torn down").map(served).collect();
    assert_eq!(served.iter().sum::<u64>(), 1000);
    assert!(
        served.iter().all(|&served| served >= 100),
        "unevenly spread: {served:?}"
    );
}

/// The number of connections in a line of a teardown.
fn served(line: &str) -> u64 {
    let number = line
        .split("served=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number in `{line}`"))
}

fn stop_signals_are_told_apart(isolation: &str) {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let mut server = echo(isolation, &["--workers", "2"]);
        server.wait_until_ready();
        assert_graceful(&server.stop(signal), 2, name);
    }
}

fn open_connections_are_drained_not_cut(isolation: &str) {
    let mut server = echo(isolation, &["--workers", "1"]);
    let address = server.wait_until_ready();
    let mut stream = connect(address);
    exchange(&mut stream, b"before");
    server.signal(Signal::TERM);
    server.wait_for("stopping: SIGTERM");
    exchange(&mut stream, b"after");
    assert!(server.is_running());

    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "a stopping server still accepts");
    }
    exchange(&mut stream, b"and still");
    drop(stream);
    assert_graceful(&server.wait(), 1, "SIGTERM");
}

fn connections_that_stay_open_are_cut_at_the_deadline(isolation: &str) {
    let mut server = echo(isolation, &["--workers", "1", "--shutdown-timeout", "1"]);
    let address = server.wait_until_ready();
    let mut stream = connect(address);
    exchange(&mut stream, b"before");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(
        ended.lines("connections cut at the deadline").count(),
        1,
        "{:#?}",
        ended.log
    );
    assert_eq!(
        ended.lines("torn down: stopped: SIGTERM").count(),
        1,
        "{:#?}",
        ended.log
    );
    assert_eq!(stream.read(&mut [0]).ok(), Some(0));
}

fn a_second_signal_ends_the_server_at_once(isolation: &str) {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut server = echo(isolation, &["--workers", "2"]);
        let address = server.wait_until_ready();
        let mut stream = connect(address);
        exchange(&mut stream, b"before");
        server.signal(signal);
        server.wait_for("stopping: ");
        // Signals within half a second belong to the first: that this time has passed is what is tested.
        thread::sleep(Duration::from_millis(600));
        assert!(server.is_running());
        let ended = server.stop(signal);
        assert_eq!(ended.code, Some(code), "{:#?}", ended.log);
        assert!(ended.took < Duration::from_secs(3), "took {:?}", ended.took);
    }
}

/// Exits with a failure and one line of error, which says all of `says`, and no panic.
fn assert_refused(isolation: &str, args: &[&str], says: &[&str]) {
    let program = env!("CARGO_BIN_EXE_echo-example");
    let ended = Running::start(
        Command::new(program)
            .args(["--isolation", isolation])
            .args(args),
    )
    .wait();
    assert!(ended.code.is_some_and(|code| code != 0), "{:?}", ended.code);
    let errors = ended.errors();
    assert_eq!(errors.len(), 1, "{:#?}", ended.log);
    for text in says {
        assert!(
            errors[0].contains(text),
            "`{text}` is not in `{}`",
            errors[0]
        );
    }
}

fn a_port_in_use_is_refused_in_one_line(isolation: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    assert_refused(isolation, &["--listen", &address], &[&address, "in use"]);
}

fn a_second_server_on_the_same_port_is_refused(isolation: &str) {
    let mut server = echo(isolation, &[]);
    let address = server.wait_until_ready().to_string();
    assert_refused(isolation, &["--listen", &address], &[&address, "in use"]);
    assert_graceful(&server.stop(Signal::TERM), 4, "SIGTERM");
}

fn an_unparsable_address_is_refused_in_one_line(isolation: &str) {
    assert_refused(
        isolation,
        &["--listen", "no address at all"],
        &["`no address at all`"],
    );
}

fn no_workers_are_refused_in_one_line(isolation: &str) {
    assert_refused(
        isolation,
        &["--workers", "0"],
        &["number of workers is 0", "1 to "],
    );
}

aioxide_tests::under_both_isolations! {
    a_large_payload_comes_back_byte_for_byte,
    a_thousand_open_connections_are_served_by_all_workers,
    stop_signals_are_told_apart,
    open_connections_are_drained_not_cut,
    connections_that_stay_open_are_cut_at_the_deadline,
    a_second_signal_ends_the_server_at_once,
    a_port_in_use_is_refused_in_one_line,
    a_second_server_on_the_same_port_is_refused,
    an_unparsable_address_is_refused_in_one_line,
    no_workers_are_refused_in_one_line,
}
