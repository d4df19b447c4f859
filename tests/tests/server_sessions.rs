//! Connections that stay open while their workers are replaced, with the handler that `guide::production` prints.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use aioxide_tests::{PATIENCE, Running, Signal, assert_closed, connect};

const CLIENTS: usize = 8;
/// In each isolation.
const ROLLS: usize = 32;

fn sessions(isolation: &str, args: &str) -> Running {
    Running::start(
        Command::new(env!("CARGO_BIN_EXE_session"))
            .args(["--isolation", isolation])
            .args(args.split_whitespace()),
    )
}

/// What became of a client's requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Requests {
    answered: usize,
    lost: usize,
    goodbyes: usize,
}

/// Asks until it is told goodbye, and connects anew. It sends a request whenever it likes, as no client knows what
/// happens to the server.
fn client(number: usize, address: SocketAddr, done: &AtomicBool) -> Requests {
    let mut requests = Requests::default();
    let mut asked = 0;
    while !done.load(Relaxed) {
        let mut stream = BufReader::new(connect(address));
        let mut bye = false;
        while !bye && !done.load(Relaxed) {
            asked += 1;
            match ask(&mut stream, &format!("request {asked} of {number}\n")) {
                Ok(told) => {
                    requests.answered += 1;
                    bye = told;
                }
                Err(error) => {
                    assert_ne!(
                        error.kind(),
                        ErrorKind::WouldBlock,
                        "no answer in {PATIENCE:?}"
                    );
                    requests.lost += 1;
                    break;
                }
            }
            // From none at all to what lets a worker go idle.
            let pause = (asked * 7 + number * 13) % 50;
            thread::sleep(Duration::from_micros(100 * pause as u64));
        }
        requests.goodbyes += usize::from(bye);
    }
    requests
}

/// Whether a goodbye came before the answer.
fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> std::io::Result<bool> {
    stream.get_mut().write_all(request.as_bytes())?;
    let mut bye = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line == request {
            return Ok(bye);
        }
        assert_eq!(line, "bye\n");
        bye = true;
    }
}

fn rolls_lose_no_request_of_a_session(isolation: &str) {
    let mut server = sessions(isolation, "--workers 2");
    let address = server.wait_until_ready();
    let done = &AtomicBool::new(false);
    let requests = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number, address, done)))
            .collect();
        for _ in 0..ROLLS {
            server.signal(Signal::HUP);
            server.wait_for("rolling restart done");
        }
        done.store(true, Relaxed);
        let mut all = Requests::default();
        for client in clients {
            let requests = client.join().expect("no client panics");
            all.answered += requests.answered;
            all.lost += requests.lost;
            all.goodbyes += requests.goodbyes;
        }
        all
    });
    let ended = server.stop(Signal::TERM);
    assert_eq!(requests.lost, 0, "{requests:?}: {:#?}", ended.log);
    assert!(requests.answered > CLIENTS * ROLLS, "{requests:?}");
    assert!(requests.goodbyes > ROLLS, "{requests:?}");
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert_closed(address);
}

/// It costs a second, not the shutdown timeout.
fn an_idle_session_does_not_keep_the_server(isolation: &str) {
    let mut server = sessions(isolation, "--workers 1");
    let address = server.wait_until_ready();
    let mut stream = BufReader::new(connect(address));
    assert!(!ask(&mut stream, "hello\n").expect("it is answered"));
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert!(
        ended.took < Duration::from_secs(10),
        "took {:?}",
        ended.took
    );
    let mut line = String::new();
    stream.read_line(&mut line).expect("it can be read");
    assert_eq!(line, "bye\n");
    assert_eq!(stream.read_line(&mut line).expect("it can be read"), 0);
}

aioxide_tests::under_both_isolations! {
    rolls_lose_no_request_of_a_session,
    an_idle_session_does_not_keep_the_server,
}

#[test]
fn the_guide_prints_this_handler() {
    let handler = |text: &str| {
        let start = text.find("async fn session").expect("it is there");
        let end = text[start..].find("\n}\n").expect("it ends");
        text[start..start + end].to_owned()
    };
    let guide = include_str!("../../runtime/src/guide/production.md");
    let fixture = include_str!("../src/bin/session.rs");
    assert_eq!(handler(guide), handler(fixture));
}
