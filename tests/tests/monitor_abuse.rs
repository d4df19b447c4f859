//! Those who do harm at a server's door, and that nobody else is delayed.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aioxide_tests::door::{Watched, connect, line_at};
use aioxide_tests::{Signal, under_both_isolations};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const WATCHED: &str = env!("CARGO_BIN_EXE_watched");
const FLOODING: &str = env!("CARGO_BIN_EXE_flooding");
/// How much later than in calm anything may be done.
const LATER: Duration = Duration::from_millis(100);

/// The median of what `times` runs take.
fn median(times: usize, mut run: impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    took.sort();
    took[times / 2]
}

/// What another client, a restart and a signal take.
fn measured(watched: &mut Watched) -> [Duration; 3] {
    let look = median(11, || {
        assert_eq!(watched.http("GET", "/server", "").status, 200);
    });
    let restart = median(5, || {
        assert_eq!(watched.ask("restart 0")["done"], "restarted");
    });
    let signal = median(5, || {
        watched.server.signal(Signal::HUP);
        watched.server.wait_for("rolling restart done");
    });
    [look, restart, signal]
}

#[track_caller]
fn assert_not_later(calm: [Duration; 3], now: [Duration; 3]) {
    let late = calm
        .iter()
        .zip(&now)
        .any(|(calm, now)| *now > *calm + LATER);
    assert!(!late, "{now:?}, and in calm {calm:?}");
}

fn resident(watched: &Watched) -> u64 {
    let pid = watched.server.pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn raise_limit_of_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

fn a_thousand_clients_delay_nobody(isolation: &str) {
    raise_limit_of_files();
    let mut watched = Watched::start(WATCHED, isolation, "");
    let calm = measured(&mut watched);
    let before = resident(&watched);
    let door = watched.door();
    let mut hostile = Vec::new();
    for _ in 0..250 {
        let idle = connect(&door);
        let mut endless = connect(&door);
        let _ = endless.write_all(b"GET /workers HTTP/1.1\r\nx: ");
        let mut half = connect(&door);
        let _ = half.write_all(b"worke");
        // Its replies are never read.
        let mut unread = connect(&door);
        unread.set_nonblocking(true).unwrap();
        for _ in 0..200 {
            if unread.write_all(b"events\n").is_err() {
                break;
            }
        }
        hostile.extend([idle, endless, half, unread]);
    }
    let now = measured(&mut watched);
    assert_not_later(calm, now);
    let grown = resident(&watched).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    let begun = Instant::now();
    let ended = watched.server.stop(Signal::TERM);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    drop(hostile);
}

/// As many questions as there are clients, one after the other without a pause.
fn a_flood_of_questions_delays_nobody(isolation: &str) {
    let mut watched = Watched::start(WATCHED, isolation, "");
    let calm = measured(&mut watched);
    let (door, over) = (watched.door(), AtomicBool::new(false));
    let now = std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    line_at(&door, "workers\ntimers\ntasks\nconnections\nmetrics");
                }
            });
        }
        let now = measured(&mut watched);
        over.store(true, Ordering::Relaxed);
        now
    });
    // Two cores have all of them to run, and this test.
    let more = |calm: Duration| calm * 4;
    assert_not_later(calm.map(more), now);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// A worker asks for something from a hundred tasks at once, each again as soon as it is answered.
fn a_supervisor_that_is_asked_without_end_delays_nobody(isolation: &str) {
    let start = || {
        let args = "--says requests --tasks 100 --on-failure restart --shutdown-timeout 2000";
        let mut watched = Watched::starting(FLOODING, isolation, args);
        watched.server.wait_for("2 workers are ready");
        watched
    };
    let measured = |watched: &mut Watched| {
        let look = median(11, || {
            assert_eq!(watched.http("GET", "/server", "").status, 200);
        });
        let restart = median(5, || {
            assert_eq!(watched.ask("restart 1")["done"], "restarted");
        });
        let signal = median(5, || {
            watched.server.signal(Signal::USR1);
            watched.server.wait_for("reloaded worker=1");
        });
        [look, restart, signal]
    };
    let mut watched = start();
    // Its successor asks for nothing.
    assert_eq!(watched.ask("restart 0")["done"], "restarted");
    let calm = measured(&mut watched);
    watched.server.stop(Signal::TERM);
    let mut watched = start();
    watched.server.signal(Signal::USR1);
    watched.server.wait_for("floods");
    let now = measured(&mut watched);
    // As above.
    assert_not_later(calm.map(|calm| calm * 4), now);
    let ended = watched.server.stop(Signal::TERM);
    let limit = Duration::from_millis(2000) + LATER;
    assert!(
        ended.took < limit,
        "took {:?}: {:#?}",
        ended.took,
        ended.log
    );
}

/// Byte by byte, or never taking a reply: it is closed.
fn what_never_ends_is_ended(isolation: &str) {
    let watched = Watched::start(WATCHED, isolation, "");
    let begun = Instant::now();
    let closed = move |mut stream: UnixStream, bytes: &[u8], pause: Duration| {
        while stream.write_all(bytes).is_ok() {
            assert!(
                begun.elapsed() < aioxide_tests::PATIENCE,
                "it is never closed"
            );
            std::thread::sleep(pause);
        }
    };
    let mut head = watched.connect();
    head.write_all(b"GET /workers HTTP/1.1\r\nx: ").unwrap();
    let mut body = watched.connect();
    body.write_all(b"POST /scale HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n")
        .unwrap();
    let unread = watched.connect();
    unread
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    std::thread::scope(|threads| {
        let pause = Duration::from_millis(200);
        threads.spawn(move || closed(head, b"x", pause));
        threads.spawn(move || closed(body, b"1", pause));
        threads.spawn(|| {
            let mut unread = unread;
            loop {
                match unread.write_all(b"events\n") {
                    Ok(()) => {}
                    // It reads no more, because what it has said isn't taken.
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
                assert!(
                    begun.elapsed() < aioxide_tests::PATIENCE,
                    "it is never closed"
                );
            }
        });
    });
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// Even if files let him in.
#[test]
fn another_user_is_sent_away() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else can be another user.
        return;
    }
    let mut watched = Watched::start(WATCHED, "process", "");
    let door = watched.door();
    let may = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    let command = watched.file("aioxide");
    std::fs::copy(env!("CARGO_BIN_EXE_aioxide-command"), &command).unwrap();
    may(&command, 0o755);
    may(door.parent().unwrap(), 0o755);
    let stop = || {
        let mut command = Command::new(&command);
        let command = command.uid(65534).gid(65534).current_dir("/");
        let output = command
            .arg(format!("--socket={}", door.display()))
            .arg("stop")
            .output();
        let output = output.unwrap();
        assert!(!output.status.success(), "{output:?}");
    };
    stop();
    may(&door, 0o666);
    stop();
    watched.server.wait_until_logged("uid 65534 is sent away");
    // The server's own user is not.
    let mut stream = watched.connect();
    writeln!(stream, "workers").unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("WORKER"), "{line}");
    let _ = stream.read(&mut [0]);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

under_both_isolations!(
    a_thousand_clients_delay_nobody,
    a_flood_of_questions_delays_nobody,
    a_supervisor_that_is_asked_without_end_delays_nobody,
    what_never_ends_is_ended,
);
