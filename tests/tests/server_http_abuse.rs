//! HTTP servers that are given more than is good for them: their memory is bounded, and other clients are served.
//!
//! `AIOXIDE_TEST_CONNECTIONS=10000` has so many idle connections go through a roll; the limit of open files has to allow it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::http::{self, ask, assert_end, response, says_close};
use aioxide_tests::{Folder, PATIENCE, Running, SetOnDrop, Signal, assert_graceful, connect};

fn web(isolation: &str, args: &str) -> Running {
    http::server(env!("CARGO_BIN_EXE_web"), isolation, args)
}

fn get(stream: &mut TcpStream, path: &str) -> (String, String) {
    ask(stream, path);
    response(stream).expect("it is answered")
}

/// What the server's processes have in memory, in KiB.
fn memory(server: &Running) -> usize {
    let all = server.children().into_iter().chain([server.pid()]);
    all.map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status.split("VmRSS:").nth(1);
        let resident = resident.and_then(|rest| rest.split_whitespace().next());
        resident.map_or(0, |size| size.parse().expect("a number"))
    })
    .sum()
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("it is short")
        .to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Reads frames of HTTP/2 until one of this kind comes, or GOAWAY with an error. False if the connection ends before.
fn await_frame(stream: &mut TcpStream, kind: u8) -> bool {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return false;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            return false;
        }
        if head[3] == kind {
            return true;
        }
        if head[3] == GOAWAY {
            return false;
        }
    }
}

/// Requests that are taken back as soon as they are made, none of them beyond what may be open at once (CVE-2023-44487).
fn rapid_resets_cost_nothing_that_lasts(isolation: &str) {
    const RESETS: u32 = 50_000;
    let mut server = web(isolation, "--workers 1");
    let address = server.wait_until_ready();
    let mut good = connect(address);
    get(&mut good, "/");
    let before = memory(&server);
    let done = AtomicBool::new(false);
    let taken_back = thread::scope(|scope| {
        let bad = scope.spawn(|| {
            let mut stream = connect(address);
            let mut reader = stream.try_clone().expect("a descriptor");
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                .expect("the server reads");
            stream
                .write_all(&frame(SETTINGS, 0, 0, &[]))
                .expect("the server reads");
            // GET http:///later/60000, which begins a response that lasts.
            let mut block = vec![0x82, 0x86, 0x04, 12];
            block.extend(b"/later/60000");
            let mut taken_back = 0;
            for number in 0..RESETS {
                let id = 2 * number + 1;
                let mut both = frame(HEADERS, 0x5, id, &block);
                both.extend(frame(RESET, 0, id, &8_u32.to_be_bytes()));
                if stream.write_all(&both).is_err() {
                    break;
                }
                taken_back += 1;
                // Else the server couldn't go on because nobody reads what it writes.
                if number % 1000 == 999 {
                    let pinged = stream.write_all(&frame(PING, 0, 0, &[0; 8]));
                    if pinged.is_err() || !await_frame(&mut reader, PING) {
                        break;
                    }
                }
            }
            done.store(true, Relaxed);
            taken_back
        });
        let mut longest = Duration::ZERO;
        while !done.load(Relaxed) {
            let begun = Instant::now();
            assert_eq!(get(&mut good, "/").1, "hello");
            longest = longest.max(begun.elapsed());
        }
        assert!(longest < Duration::from_secs(10), "{longest:?}");
        bad.join().expect("it doesn't panic")
    });
    let grown = memory(&server).saturating_sub(before);
    eprintln!("{isolation}: {taken_back} requests taken back, {grown} KiB more");
    assert!(taken_back > 0);
    assert!(grown < 40 * 1024, "{grown} KiB");
    drop(good);
    assert_graceful(&server.stop(Signal::TERM));
}

/// Their next request after the stop is answered, by the worker that is replaced.
fn idle_connections_go_through_a_roll(isolation: &str) {
    let count = aioxide_tests::asked("AIOXIDE_TEST_CONNECTIONS", 500);
    let mut server = web(isolation, "--workers 2 --shutdown-timeout 60000");
    let address = server.wait_until_ready();
    get(&mut connect(address), "/");
    let before = memory(&server);
    let mut idle: Vec<TcpStream> = (0..count).map(|_| connect(address)).collect();
    for stream in &mut idle {
        assert!(!says_close(&get(stream, "/").0));
    }
    let with_all = memory(&server).saturating_sub(before);
    server.signal(Signal::HUP);
    // Each of them is with an old worker, which knows by then that it is one.
    for _ in 0..2 {
        server.wait_for("asked to stop: rolling restart");
    }
    let fresh = get(&mut connect(address), "/");
    assert!(!says_close(&fresh.0), "{fresh:?}");
    let after_roll = memory(&server).saturating_sub(before);
    let begun = Instant::now();
    for stream in &mut idle {
        let (head, body) = get(stream, "/");
        assert_eq!((body.as_str(), says_close(&head)), ("hello", true));
        assert_end(stream);
    }
    let took = begun.elapsed();
    server.wait_for("rolling restart done");
    eprintln!(
        "{isolation}: {count} idle connections, {with_all} KiB for them, {after_roll} KiB with the new workers, \
         asked in {took:?}"
    );
    // A buffer for each, and what a debug build takes.
    assert!(with_all < 40 * 1024 + count * 24, "{with_all} KiB");
    drop(idle);
    assert_graceful(&server.stop(Signal::TERM));
}

/// Bodies that never come, heads that never end, and requests that were announced by the thousand: other clients are served.
fn clients_that_keep_a_server_waiting_hold_up_nobody(isolation: &str) {
    let args = "--workers 1 --head-timeout 60000 --shutdown-timeout 1500";
    let mut server = web(isolation, args);
    let address = server.wait_until_ready();
    let mut good = connect(address);
    get(&mut good, "/");
    let before = memory(&server);
    let waiting: Vec<TcpStream> = (0..150)
        .map(|number| {
            let mut stream = connect(address);
            let begun = match number % 3 {
                0 => "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\nx"
                    .to_owned(),
                1 => "GET / HTTP/1.1\r\nhost: x\r\nx: ".to_owned(),
                _ => "GET /after/600000 HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100),
            };
            stream
                .write_all(begun.as_bytes())
                .expect("the server reads");
            stream
        })
        .collect();
    for _ in 0..100 {
        assert_eq!(get(&mut good, "/").1, "hello");
    }
    let grown = memory(&server).saturating_sub(before);
    eprintln!("{isolation}: {} waiting, {grown} KiB more", waiting.len());
    assert!(grown < 40 * 1024, "{grown} KiB");
    drop((good, waiting));
    // hyper doesn't read on while it has requests to handle, and so doesn't see that their client is gone.
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    let cut = "connections cut at the deadline of SIGTERM";
    let cut: Vec<&str> = ended.lines(cut).collect();
    assert!(
        matches!(cut[..], [line] if line.contains("connections=50 requests=50")),
        "{cut:?}"
    );
}

/// What became of requests, each on a connection of its own.
#[derive(Debug, Default)]
struct Fresh {
    answered: AtomicUsize,
    failed: AtomicUsize,
    longest: std::sync::Mutex<Duration>,
}

impl Fresh {
    /// Waits until as many more are answered that every worker has had some of them.
    fn wait_for_more(&self) {
        let enough = self.answered.load(Relaxed) + 200;
        let deadline = Instant::now() + PATIENCE;
        while self.answered.load(Relaxed) < enough {
            assert!(Instant::now() < deadline, "{self:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// So many clients, each of which asks again and again until it is done.
fn load(clients: usize, address: SocketAddr, path: &str, done: &AtomicBool, fresh: &Fresh) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let begun = Instant::now();
                    let answered =
                        TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
                            stream.set_read_timeout(Some(PATIENCE))?;
                            write!(
                                stream,
                                "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                            )?;
                            response(&mut stream)
                        });
                    match answered {
                        Ok(_) => fresh.answered.fetch_add(1, Relaxed),
                        Err(_) => fresh.failed.fetch_add(1, Relaxed),
                    };
                    let mut longest = fresh.longest.lock().unwrap();
                    *longest = longest.max(begun.elapsed());
                }
            });
        }
    });
}

/// Four times as many clients as may be served at once, through a roll.
fn no_worker_has_more_connections_than_it_may(isolation: &str) {
    let mut server = web(isolation, "--workers 2 --max-connections 8");
    let address = server.wait_until_ready();
    let (done, fresh) = (AtomicBool::new(false), Fresh::default());
    thread::scope(|scope| {
        let end = SetOnDrop(&done);
        let load = scope.spawn(|| load(64, address, "/after/5", &done, &fresh));
        fresh.wait_for_more();
        for _ in 0..2 {
            server.signal(Signal::HUP);
            server.wait_for("rolling restart done");
            fresh.wait_for_more();
        }
        drop(end);
        load.join().expect("no client panics");
    });
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    eprintln!("{isolation}: {fresh:?}");
    assert_eq!(fresh.failed.load(Relaxed), 0, "{fresh:?}");
    let most: Vec<usize> = ended
        .lines("left most=")
        .map(|line| {
            line.rsplit('=')
                .next()
                .and_then(|most| most.trim().parse().ok())
                .expect("a number")
        })
        .collect();
    assert_eq!(most.len(), 6, "{most:?}");
    assert!(most.iter().all(|most| (1..=8).contains(most)), "{most:?}");
    assert!(most.contains(&8), "they are full: {most:?}");
}

/// It is tried again after a while that doubles, and its siblings have its connections all the while.
fn nobody_waits_for_a_worker_that_crashes_again_and_again(isolation: &str) {
    let folder = Folder::new();
    let file = folder.file("fail");
    let args = format!(
        "--workers 4 --on-failure restart --max-restarts 1000 --fail-while {}",
        file.display()
    );
    let mut server = web(isolation, &args);
    let address = server.wait_until_ready();
    std::fs::write(&file, "").expect("it can be written");
    let mut stream = connect(address);
    ask(&mut stream, "/die");
    let _ = response(&mut stream);
    server.wait_for("it was to die");
    let (done, fresh) = (AtomicBool::new(false), Fresh::default());
    thread::scope(|scope| {
        let end = SetOnDrop(&done);
        let load = scope.spawn(|| load(16, address, "/", &done, &fresh));
        // After 100, 200, 400, 800 and 1600 ms.
        for _ in 0..5 {
            server.wait_for("it fails at its start");
        }
        std::fs::remove_file(&file).expect("it is there");
        server.wait_for("is ready");
        drop(end);
        load.join().expect("no client panics");
    });
    eprintln!("{isolation}: {fresh:?}");
    assert_eq!(fresh.failed.load(Relaxed), 0, "{fresh:?}");
    assert!(fresh.answered.load(Relaxed) > 0);
    // The last backoff alone is longer than that.
    let longest = *fresh.longest.lock().unwrap();
    assert!(longest < Duration::from_millis(1500), "{longest:?}");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

aioxide_tests::under_both_isolations! {
    rapid_resets_cost_nothing_that_lasts,
    idle_connections_go_through_a_roll,
    clients_that_keep_a_server_waiting_hold_up_nobody,
    no_worker_has_more_connections_than_it_may,
    nobody_waits_for_a_worker_that_crashes_again_and_again,
}
