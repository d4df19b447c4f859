//! The http example as a real process, with a real HTTP client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::{Ended, PATIENCE, Running, Signal};

fn http(isolation: &str, args: &[&str]) -> Running {
    let program = env!("CARGO_BIN_EXE_http");
    Running::start(
        Command::new(program)
            .args(["--isolation", isolation, "--listen", "127.0.0.1:0"])
            .args(args),
    )
}

fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

fn get(client: &ureq::Agent, address: SocketAddr, path: &str) -> Result<String, ureq::Error> {
    let mut response = client.get(format!("http://{address}{path}")).call()?;
    response.body_mut().read_to_string()
}

fn assert_graceful(ended: &Ended, workers: usize) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    let torn_down = ended.lines("torn down: completed").count();
    assert_eq!(torn_down, workers, "{:#?}", ended.log);
}

fn answered(ended: &Ended) -> usize {
    let numbers = ended.lines("torn down").filter_map(|line| {
        let number = line.split("answered=").nth(1)?.split(' ').next()?;
        number.parse::<usize>().ok()
    });
    numbers.sum()
}

fn requests_are_answered_by_all_workers(isolation: &str) {
    let mut server = http(isolation, &["--workers", "4"]);
    let address = server.wait_until_ready();
    let mut seen = [0; 4];
    for _ in 0..200 {
        // A client of its own each time: a connection stays with the worker that accepted it.
        let text = get(&client(), address, "/").expect("an answer");
        let worker = text
            .trim_end()
            .strip_prefix("{\"worker\":")
            .and_then(|rest| rest.split(',').next()?.parse::<usize>().ok())
            .unwrap_or_else(|| panic!("no worker in `{text}`"));
        seen[worker] += 1;
    }
    assert!(seen.iter().all(|&requests| requests > 0), "{seen:?}");
    let missing = get(&client(), address, "/nothing/here");
    assert!(
        matches!(missing, Err(ureq::Error::StatusCode(404))),
        "{missing:?}"
    );

    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended, 4);
    assert_eq!(answered(&ended), 200);
}

fn requests_under_way_are_answered_and_new_ones_refused(isolation: &str) {
    let mut server = http(isolation, &["--workers", "2"]);
    let address = server.wait_until_ready();
    // An idle connection that is kept open must not hold up the stop.
    let idle = client();
    get(&idle, address, "/").expect("an answer");

    let requests: Vec<_> = (0..20)
        .map(|_| thread::spawn(move || get(&client(), address, "/after/1500")))
        .collect();
    for _ in 0..20 {
        server.wait_for("under way");
    }
    server.signal(Signal::TERM);
    server.wait_for("stopping: SIGTERM");
    let deadline = Instant::now() + PATIENCE;
    while get(&client(), address, "/").is_ok() {
        assert!(Instant::now() < deadline, "a stopping server still answers");
    }
    assert!(server.is_running());
    for request in requests {
        let answer = request.join().expect("the client doesn't panic");
        let text = answer.expect("a request under way is answered");
        assert!(text.starts_with("{\"worker\":"), "{text}");
    }
    let ended = server.wait();
    assert_graceful(&ended, 2);
    assert!(answered(&ended) >= 21, "{:#?}", ended.log);
}

fn a_request_that_takes_too_long_is_cut_at_the_deadline(isolation: &str) {
    let args = [
        "--workers",
        "1",
        "--shutdown-timeout",
        "1",
        "--request-timeout",
        "3600",
    ];
    let mut server = http(isolation, &args);
    let address = server.wait_until_ready();
    let request = thread::spawn(move || get(&client(), address, "/after/600000"));
    server.wait_for("under way");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert!(ended.took < Duration::from_secs(4), "took {:?}", ended.took);
    let cut = ended.lines("connections cut at the deadline").count();
    assert_eq!(cut, 1, "{:#?}", ended.log);
    let answer = request.join().expect("the client doesn't panic");
    assert!(answer.is_err(), "{answer:?}");
}

/// Half a request, then silence: such a client is cut at the deadline, and the rest of the stop is clean.
fn a_client_that_never_ends_its_request_is_cut_at_the_deadline(isolation: &str) {
    let mut server = http(isolation, &["--workers", "1", "--shutdown-timeout", "1"]);
    let address = server.wait_until_ready();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
    stream.write_all(b"GET / HT").expect("the server reads");
    get(&client(), address, "/").expect("an answer, and so the connection before was accepted");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

fn a_request_has_a_deadline_of_its_own(isolation: &str) {
    let mut server = http(isolation, &["--workers", "1", "--request-timeout", "1"]);
    let address = server.wait_until_ready();
    let slow = get(&client(), address, "/after/600000");
    assert!(
        matches!(slow, Err(ureq::Error::StatusCode(504))),
        "{slow:?}"
    );
    get(&client(), address, "/after/1").expect("an answer in time");
    assert_graceful(&server.stop(Signal::TERM), 1);
}

aioxide_tests::under_both_isolations! {
    requests_are_answered_by_all_workers,
    requests_under_way_are_answered_and_new_ones_refused,
    a_request_that_takes_too_long_is_cut_at_the_deadline,
    a_client_that_never_ends_its_request_is_cut_at_the_deadline,
    a_request_has_a_deadline_of_its_own,
}
