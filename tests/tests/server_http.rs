//! HTTP on real workers: what is under way at a stop, what clients do wrong, and rolls under load.
//!
//! `AIOXIDE_TEST_REQUESTS=200000` makes the rolling restarts last for as many requests, and compares with axum's own loop.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aioxide_tests::http::{self, ask, assert_end, response, says_close};
use aioxide_tests::{
    Folder, PATIENCE, Running, Signal, assert_graceful, connect, outlast_repeated_signals,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn web(isolation: &str, args: &str) -> Running {
    http::server(env!("CARGO_BIN_EXE_web"), isolation, args)
}

/// Each is in the state that its name says when the worker is told to stop.
fn what_is_under_way_is_finished(isolation: &str) {
    for args in ["", "--by-hand"] {
        let mut server = web(isolation, &format!("--workers 1 {args}"));
        let address = server.wait_until_ready();
        let [mut fresh, mut idle, mut handled, mut written, mut upgraded] =
            [(); 5].map(|()| connect(address));
        let mut head_begun = connect(address);
        head_begun.write_all(b"GET / HT").unwrap();
        ask(&mut idle, "/");
        let (head, body) = response(&mut idle).unwrap();
        assert_eq!((says_close(&head), body.as_str()), (false, "hello"));
        ask(&mut upgraded, "/upgrade");
        assert!(
            response(&mut upgraded)
                .unwrap()
                .0
                .starts_with("http/1.1 101")
        );
        upgraded.write_all(b"x").unwrap();
        upgraded.read_exact(&mut [0]).unwrap();
        ask(&mut handled, "/after/500");
        server.wait_for("under way");
        ask(&mut written, "/later/500");
        server.wait_for("under way");

        // The worker's successor has its place, and the old one the most of 20 s.
        server.signal(Signal::HUP);
        server.wait_for("upgraded, and told: rolling restart");
        head_begun.write_all(b"TP/1.1\r\nhost: x\r\n\r\n").unwrap();
        for stream in [&mut handled, &mut head_begun] {
            let (head, _) = response(stream).unwrap();
            assert!(says_close(&head), "{head}");
            assert_end(stream);
        }
        let (head, body) = response(&mut written).unwrap();
        assert_eq!((says_close(&head), body.as_str()), (false, "later"));
        std::thread::sleep(Duration::from_millis(1200));
        for stream in [&mut fresh, &mut idle, &mut written] {
            ask(stream, "/");
            let (head, body) = response(stream).expect("an idle connection is kept in a roll");
            assert_eq!((says_close(&head), body.as_str()), (true, "hello"));
            assert_end(stream);
        }
        upgraded.read_exact(&mut [0]).unwrap();
        upgraded.write_all(b"q").unwrap();
        server.wait_for("upgraded, and left: Ok(113)");
        assert_end(&mut upgraded);
        let drained = server.wait_for("drained: rolling restart");
        assert!(drained.contains("cut=0"), "{drained}");
        server.wait_for("rolling restart done");
        assert_graceful(&server.stop(Signal::TERM));
    }
}

/// As a load balancer wants it, which is still to hear of the end from a health check.
fn a_server_that_is_going_has_clients_go_elsewhere(isolation: &str) {
    let mut server = web(isolation, "--workers 1 --drain-delay 15000");
    let address = server.wait_until_ready();
    let mut kept = connect(address);
    ask(&mut kept, "/");
    assert!(!says_close(&response(&mut kept).unwrap().0));
    server.signal(Signal::TERM);
    server.wait_for("everything is still served, and the stop begins in");
    // The worker hears of it a little later.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut fresh = connect(address);
        ask(&mut fresh, "/");
        if says_close(&response(&mut fresh).expect("all are served").0) {
            assert_end(&mut fresh);
            break;
        }
        assert!(Instant::now() < deadline, "it never says `close`");
    }
    ask(&mut kept, "/");
    let (head, body) = response(&mut kept).expect("an idle connection is kept");
    assert_eq!((says_close(&head), body.as_str()), (true, "hello"));
    assert_end(&mut kept);
    outlast_repeated_signals();
    assert_graceful(&server.stop(Signal::TERM));
}

fn idle_connections_have_a_second_when_the_server_stops(isolation: &str) {
    let mut server = web(isolation, "--workers 1");
    let address = server.wait_until_ready();
    let [mut fresh, mut idle, mut used] = [(); 3].map(|()| connect(address));
    for stream in [&mut idle, &mut used] {
        ask(stream, "/");
        response(stream).unwrap();
    }
    server.signal(Signal::TERM);
    server.wait_for("stopping: SIGTERM");
    let stopped = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    ask(&mut used, "/");
    assert!(says_close(&response(&mut used).unwrap().0));
    for stream in [&mut fresh, &mut idle] {
        assert_end(stream);
    }
    let after = stopped.elapsed();
    assert!(after > Duration::from_millis(900), "{after:?}");
    let ended = server.wait();
    assert_graceful(&ended);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

fn idle_connections_have_the_time_that_is_set(isolation: &str) {
    let mut server = web(isolation, "--workers 1 --idle 300");
    let address = server.wait_until_ready();
    let mut idle = connect(address);
    ask(&mut idle, "/");
    response(&mut idle).unwrap();
    server.signal(Signal::HUP);
    assert_end(&mut idle);
    server.wait_for("rolling restart done");
    assert_graceful(&server.stop(Signal::TERM));
}

fn what_is_left_at_the_deadline_is_cut(isolation: &str) {
    for args in ["", "--by-hand"] {
        let mut server = web(
            isolation,
            &format!("--workers 1 --shutdown-timeout 1500 {args}"),
        );
        let address = server.wait_until_ready();
        let [mut handled, mut body, mut upgraded] = [(); 3].map(|()| connect(address));
        ask(&mut handled, "/after/600000");
        server.wait_for("under way");
        body.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel")
            .unwrap();
        ask(&mut upgraded, "/upgrade");
        response(&mut upgraded).unwrap();
        // So the one before has been read.
        let mut last = connect(address);
        ask(&mut last, "/");
        response(&mut last).unwrap();
        drop(last);
        server.signal(Signal::TERM);
        let cut = server.wait_for("connections cut at the deadline of SIGTERM");
        assert!(cut.contains("connections=3 requests=2"), "{cut}");
        let ended = server.wait();
        assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
        assert_eq!(ended.lines("cut=3").count(), 1, "{:#?}", ended.log);
        for stream in [&mut handled, &mut body] {
            assert!(response(stream).is_err());
        }
        let mut rest = Vec::new();
        let _ = upgraded.read_to_end(&mut rest);
        assert_eq!(rest, b"b");
    }
}

/// Each client does something wrong, another is served all the while, and the log says nothing of it.
fn clients_that_do_wrong_are_counted_and_hurt_nobody(isolation: &str) {
    for args in ["", "--by-hand"] {
        let mut server = web(isolation, &format!("--workers 1 --head-timeout 400 {args}"));
        let address = server.wait_until_ready();
        let mut good = connect(address);
        let mut still_served = || {
            ask(&mut good, "/");
            assert_eq!(response(&mut good).expect("it is served").1, "hello");
        };

        // Malformed.
        let mut stream = connect(address);
        stream.write_all(b"no HTTP at all\r\n\r\n").unwrap();
        assert!(response(&mut stream).unwrap().0.starts_with("http/1.1 400"));
        assert_end(&mut stream);
        still_served();

        // A head without an end, byte by byte.
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").unwrap();
        let begun = Instant::now();
        while stream.write_all(b"x").is_ok() {
            let took = begun.elapsed();
            assert!(took < PATIENCE, "a slow head is never closed");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(begun.elapsed() > Duration::from_millis(390));
        still_served();
        // Its first bytes may be those of HTTP/2.
        let mut stream = connect(address);
        stream.write_all(b"PRI * HT").unwrap();
        assert_end(&mut stream);
        still_served();

        // A head of megabytes, and one of many fields.
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").unwrap();
        let megabyte = vec![b'x'; 1 << 20];
        let _ = stream.write_all(&megabyte);
        if let Ok((head, _)) = response(&mut stream) {
            assert!(head.starts_with("http/1.1 431"), "{head}");
        }
        still_served();
        let mut stream = connect(address);
        let fields = "a: b\r\n".repeat(1000);
        stream
            .write_all(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes())
            .unwrap();
        assert!(response(&mut stream).unwrap().0.starts_with("http/1.1 431"));
        still_served();

        // Half-closed after the request, gone in the middle of it, silent.
        let mut stream = connect(address);
        ask(&mut stream, "/after/1");
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = response(&mut stream);
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        drop(stream);
        drop(connect(address));
        still_served();

        // Pipelined.
        let mut stream = connect(address);
        let both = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20);
        stream.write_all(both.as_bytes()).unwrap();
        for _ in 0..20 {
            assert_eq!(response(&mut stream).unwrap().1, "hello");
        }
        // A body that never comes: its request waits, and its client goes away.
        let mut stream = connect(address);
        stream
            .write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel")
            .unwrap();
        drop(stream);
        still_served();

        // It does nothing for longer than a head may take.
        std::thread::sleep(Duration::from_millis(800));
        still_served();
        drop(good);
        let ended = server.stop(Signal::TERM);
        assert_graceful(&ended);
        assert_eq!(ended.lines(" failed=5 ").count(), 1, "{:#?}", ended.log);
        assert_eq!(ended.lines("WARN").count(), 0, "{:#?}", ended.log);
    }
}

fn a_panic_ends_one_connection(isolation: &str) {
    let mut server = web(isolation, "--workers 1");
    let address = server.wait_until_ready();
    let [mut good, mut bad] = [(); 2].map(|()| connect(address));
    ask(&mut bad, "/panic");
    assert!(response(&mut bad).is_err());
    ask(&mut good, "/");
    response(&mut good).unwrap();
    drop(good);
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.lines("a connection's handler panicked").count(), 1);
}

/// Starts the fixture on a Unix socket beside a TCP port.
fn web_on_both(isolation: &str, args: &str, path: &Path) -> (Running, SocketAddr) {
    let mut server = web(isolation, &format!("--unix {} {args}", path.display()));
    let ready = server.wait_for("ready, listening on");
    let address = ready
        .split("listening on ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let address = address.expect("two addresses").parse().expect("an address");
    (server, address)
}

fn listeners_of_one_service_count_apart(isolation: &str) {
    let folder = Folder::new();
    let path = folder.file("web.sock");
    let (server, address) = web_on_both(isolation, "--workers 1", &path);
    let mut stream = connect(address);
    stream.write_all(b"no HTTP at all\r\n\r\n").unwrap();
    assert!(response(&mut stream).unwrap().0.starts_with("http/1.1 400"));
    assert_end(&mut stream);
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    for failed in [" failed=1 ", " failed=0 "] {
        assert_eq!(ended.lines(failed).count(), 1, "{:#?}", ended.log);
    }
}

fn requests_know_their_peer_on_tcp_and_unix_sockets(isolation: &str) {
    let folder = Folder::new();
    let path = folder.file("web.sock");
    for args in ["", "--by-hand"] {
        let (server, address) = web_on_both(isolation, args, &path);
        let mut stream = connect(address);
        ask(&mut stream, "/peer");
        let own = stream.local_addr().unwrap();
        assert_eq!(response(&mut stream).unwrap().1, format!("{own} {own}"));
        let mut stream = UnixStream::connect(&path).unwrap();
        ask(&mut stream, "/peer");
        assert_eq!(response(&mut stream).unwrap().1, "unix ");
        drop(stream);
        assert_graceful(&server.stop(Signal::TERM));
    }
}

/// Wherever the kernel puts them, each worker has as many as it may, and one more waits until one of them is closed.
fn workers_have_no_more_connections_than_they_may(isolation: &str) {
    let mut server = web(isolation, "--workers 2 --max-connections 8");
    let address = server.wait_until_ready();
    let mut counts = [0, 0];
    let mut open: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = connect(address);
            ask(&mut stream, "/worker");
            let (_, worker) = response(&mut stream).expect("a sibling takes over");
            counts[worker.parse::<usize>().unwrap()] += 1;
            stream
        })
        .collect();
    assert_eq!(counts, [8, 8]);

    let mut waiting = connect(address);
    ask(&mut waiting, "/worker");
    waiting
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert!(waiting.read(&mut [0]).is_err(), "all are full");
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    // Of either worker: who has it in its backlog can accept it, or the other stands in.
    for stream in open.drain(..1) {
        drop(stream);
    }
    response(&mut waiting).expect("there is room again");
    drop((open, waiting));

    // More clients than may be served at once.
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut stream = connect(address);
                    ask(&mut stream, "/after/2");
                    assert_eq!(response(&mut stream).expect("its turn comes").1, "after");
                }
            });
        }
    });
    assert_graceful(&server.stop(Signal::TERM));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn http2() -> reqwest::Client {
    reqwest::Client::builder()
        .http2_prior_knowledge()
        .timeout(PATIENCE)
        .build()
        .expect("a client")
}

/// What is handled when the worker stops is answered, and the connection then closed for the client to open another.
fn http2_is_drained_by_goaway(isolation: &str) {
    let mut server = web(isolation, "--workers 1");
    let address = server.wait_until_ready();
    let runtime = runtime();
    let _entered = runtime.enter();
    let client = http2();
    let get = |path: &str| client.get(format!("http://{address}{path}")).send();
    let response = runtime.block_on(get("/")).unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let slow = runtime.spawn(get("/after/700"));
    server.wait_for("under way");
    server.signal(Signal::HUP);
    for _ in 0..200 {
        let response = runtime.block_on(get("/"));
        assert!(
            response
                .expect("another connection is opened")
                .status()
                .is_success()
        );
    }
    let slow = runtime.block_on(slow).unwrap().expect("it is answered");
    assert_eq!(runtime.block_on(slow.text()).unwrap(), "after");
    server.wait_for("rolling restart done");
    assert_graceful(&server.stop(Signal::TERM));
}

/// Requests that were answered, and those that weren't.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicUsize,
    failed: AtomicUsize,
    last: std::sync::Mutex<String>,
}

impl Tally {
    fn count<E: std::fmt::Debug>(&self, result: Result<(), E>) {
        match result {
            Ok(()) => _ = self.answered.fetch_add(1, Relaxed),
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                *self.last.lock().unwrap() = format!("{error:?}");
            }
        }
    }

    fn failed(&self) -> String {
        format!(
            "{} ({})",
            self.failed.load(Relaxed),
            self.last.lock().unwrap()
        )
    }
}

async fn request(stream: &mut tokio::net::TcpStream) -> io::Result<bool> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        .await?;
    let mut received = Vec::new();
    while !received.ends_with(b"hello") {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(says_close(
        &String::from_utf8_lossy(&received).to_lowercase(),
    ))
}

/// Uses a connection for as long as the server lets it, with pauses.
async fn keep_alive(address: SocketAddr, number: u64, done: &AtomicBool, tally: &Tally) {
    while !done.load(Relaxed) {
        let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else {
            tally.count(Err("it isn't accepted"));
            continue;
        };
        while !done.load(Relaxed) {
            let answered = request(&mut stream).await;
            let goes_on = matches!(answered, Ok(false));
            tally.count(answered.map(drop));
            if !goes_on {
                break;
            }
            tokio::time::sleep(Duration::from_millis(number * 7 % 300)).await;
        }
    }
}

async fn fresh(address: SocketAddr, done: &AtomicBool, tally: &Tally) {
    while !done.load(Relaxed) {
        let answered = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            // Connected, and nothing said yet.
            tokio::task::yield_now().await;
            request(&mut stream).await
        };
        tally.count(answered.await.map(drop));
    }
}

async fn by_http2(address: SocketAddr, done: &AtomicBool, tally: &Tally) {
    let client = http2();
    while !done.load(Relaxed) {
        let get = client.get(format!("http://{address}/")).send();
        tally.count(
            get.await
                .and_then(reqwest::Response::error_for_status)
                .map(drop),
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The failed requests of each kind, in so many rolls.
fn roll_under_load(isolation: &str, args: &str, requests: usize, rolls: usize) -> [Tally; 3] {
    let mut server = web(isolation, args);
    let address = server.wait_until_ready();
    let done = Arc::new(AtomicBool::new(false));
    let tallies: Arc<[Tally; 3]> = Arc::default();
    let load = std::thread::spawn({
        let (done, tallies) = (Arc::clone(&done), Arc::clone(&tallies));
        let http2 = if args.contains("--axum") { 0 } else { 16 };
        move || {
            runtime().block_on(async {
                let (done, tallies) = (&done, &tallies);
                let kept = (0..64).map(|n| keep_alive(address, n, done, &tallies[0]));
                let fresh = (0..64).map(|_| fresh(address, done, &tallies[1]));
                let http2 = (0..http2).map(|_| by_http2(address, done, &tallies[2]));
                tokio::join!(
                    futures_util::future::join_all(kept),
                    futures_util::future::join_all(fresh),
                    futures_util::future::join_all(http2),
                );
            });
        }
    });
    let answered = || {
        let all = tallies.iter().map(|tally| tally.answered.load(Relaxed));
        all.sum::<usize>()
    };
    for roll in 1.. {
        server.signal(Signal::HUP);
        server.wait_for("rolling restart done");
        if roll >= rolls && answered() >= requests {
            break;
        }
    }
    done.store(true, Relaxed);
    load.join().expect("no client panics");
    let ended = server.stop(Signal::TERM);
    if !args.contains("--axum") {
        assert_graceful(&ended);
    }
    Arc::into_inner(tallies).expect("the clients are gone")
}

fn rolls_under_load_lose_no_request(isolation: &str) {
    roll_and_lose_nothing(isolation, "--workers 2 --shutdown-timeout 6000");
}

#[test]
fn rolls_of_workers_that_hand_over_connections_lose_no_request() {
    roll_and_lose_nothing("thread", "--workers 4 --shutdown-timeout 6000 --balance");
}

fn roll_and_lose_nothing(isolation: &str, args: &str) {
    let wanted = std::env::var("AIOXIDE_TEST_REQUESTS").ok();
    let (requests, rolls) = match &wanted {
        Some(wanted) => (wanted.parse().expect("a number"), 20),
        None => (2_000, 3),
    };
    let tallies = roll_under_load(isolation, args, requests, rolls);
    eprintln!("{isolation}: {tallies:?}");
    for tally in &tallies {
        assert_eq!(tally.failed(), "0 ()");
        assert!(tally.answered.load(Relaxed) > 0);
    }
    if wanted.is_some() {
        let tallies = roll_under_load(isolation, &format!("{args} --axum"), requests, rolls);
        eprintln!("{isolation}, axum's loop: {tallies:?}");
    }
}

aioxide_tests::under_both_isolations! {
    what_is_under_way_is_finished,
    a_server_that_is_going_has_clients_go_elsewhere,
    idle_connections_have_a_second_when_the_server_stops,
    idle_connections_have_the_time_that_is_set,
    what_is_left_at_the_deadline_is_cut,
    clients_that_do_wrong_are_counted_and_hurt_nobody,
    a_panic_ends_one_connection,
    requests_know_their_peer_on_tcp_and_unix_sockets,
    listeners_of_one_service_count_apart,
    workers_have_no_more_connections_than_they_may,
    http2_is_drained_by_goaway,
    rolls_under_load_lose_no_request,
}
