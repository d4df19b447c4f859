//! Unix sockets of many workers: few of them wait for connections, in turn, and every connection is accepted.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::http::{self, ask, response};
use aioxide_tests::{Folder, PATIENCE, Running, Signal, assert_graceful};

const WORKERS: usize = 8;

fn web(isolation: &str, path: &Path, args: &str) -> Running {
    let args = format!("--workers {WORKERS} --unix {} {args}", path.display());
    let mut server = http::server(env!("CARGO_BIN_EXE_web"), isolation, &args);
    server.wait_for("ready, listening on");
    server
}

fn open(path: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The answer to one request, on a connection of its own.
fn get(path: &Path, request: &str) -> std::io::Result<String> {
    let mut stream = open(path)?;
    ask(&mut stream, request);
    Ok(response(&mut stream)?.1)
}

fn each_worker_has_its_turn(isolation: &str) {
    let folder = Folder::new();
    let path = folder.file("web.sock");
    let server = web(isolation, &path, "");
    let (mut seen, mut open) = (BTreeSet::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < WORKERS {
        assert!(Instant::now() < deadline, "{seen:?}");
        let mut stream = self::open(&path).expect("it accepts");
        ask(&mut stream, "/worker");
        seen.insert(response(&mut stream).expect("it is answered").1);
        open.push(stream);
    }
    drop(open);
    assert_graceful(&server.stop(Signal::TERM));
}

/// However the workers change: replaced, crashed, or blocked, all of them or one.
fn every_connection_is_accepted(isolation: &str) {
    let folder = Folder::new();
    let path = folder.file("web.sock");
    let mut server = web(isolation, &path, "--on-failure restart");
    let (done, answered, failed) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    thread::scope(|scope| {
        let (path, done) = (&path, &done);
        for _ in 0..16 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    match get(path, "/") {
                        Ok(_) => answered.fetch_add(1, Relaxed),
                        Err(_) => failed.fetch_add(1, Relaxed),
                    };
                }
            });
        }
        for _ in 0..2 {
            server.signal(Signal::HUP);
            server.wait_for("rolling restart done");
        }
        assert_eq!(failed.load(Relaxed), 0);
        for _ in 0..WORKERS {
            let _ = get(path, "/die");
            server.wait_for("it was to die");
        }
        done.store(true, Relaxed);
    });
    // Those that a worker had accepted die with it.
    let (answered, failed) = (answered.into_inner(), failed.into_inner());
    eprintln!("{isolation}: {answered} answered, {failed} died with their worker");
    assert!(
        failed <= 16 * WORKERS && answered > 0,
        "{failed} of {answered}"
    );
    let deadline = Instant::now() + PATIENCE;
    while get(&path, "/worker").is_err() {
        assert!(Instant::now() < deadline, "nobody accepts any more");
    }
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// Whoever waits while its loop is blocked is noticed, and another waits in its place.
fn nobody_waits_for_a_blocked_worker(isolation: &str) {
    const BLOCK: Duration = Duration::from_secs(3);
    let folder = Folder::new();
    let path = folder.file("web.sock");
    let mut server = web(isolation, &path, "");
    let longest = thread::scope(|scope| {
        // Two of them, which may be those that wait.
        for _ in 0..2 {
            let path = &path;
            scope.spawn(move || get(path, &format!("/block/{}", BLOCK.as_millis())));
            server.wait_for(" blocks");
        }
        let until = Instant::now() + BLOCK - Duration::from_millis(1500);
        let mut longest = Duration::ZERO;
        while Instant::now() < until {
            let begun = Instant::now();
            get(&path, "/").expect("it is answered");
            longest = longest.max(begun.elapsed());
            thread::sleep(Duration::from_millis(10));
        }
        longest
    });
    eprintln!("{isolation}: the longest waited {longest:?}");
    assert!(longest < Duration::from_millis(1200), "{longest:?}");
    assert_graceful(&server.stop(Signal::TERM));
}

aioxide_tests::under_both_isolations! {
    each_worker_has_its_turn,
    every_connection_is_accepted,
    nobody_waits_for_a_blocked_worker,
}
