//! What shows only after a while: recycling, which no worker is due for in its first minute, many stops, many rolls.
//!
//! `AIOXIDE_TEST_STOPS=100` and `AIOXIDE_TEST_ROLLS=1000` make it last.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::door::{http_at, json, line_at};
use aioxide_tests::{Folder, PATIENCE, Running, SetOnDrop, Signal, address_in};

/// A connection that isn't served within this time has been forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

fn rounds(variable: &str, few: usize) -> usize {
    let wanted = std::env::var(variable).ok();
    wanted.map_or(few, |wanted| wanted.parse().expect("a number"))
}

fn traffic(isolation: &str, args: &str, variables: &[(&str, &str)]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_traffic"));
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace())
        .envs(variables.iter().copied());
    Running::start(&mut command)
}

/// Served to its end.
fn short(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, FORGOTTEN)?;
    stream.set_read_timeout(Some(FORGOTTEN))?;
    stream.write_all(b"e")?;
    stream.read_exact(&mut [0])?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// How many were served, and what became of the others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcomes {
    served: usize,
    lost: Vec<ErrorKind>,
}

impl Outcomes {
    fn count(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.served += 1,
            Err(error) => self.lost.push(error.kind()),
        }
    }

    fn and(mut self, other: Outcomes) -> Outcomes {
        self.served += other.served;
        self.lost.extend(other.lost);
        self
    }
}

#[track_caller]
fn assert_graceful(server: Running, signal: Signal) {
    let ended = server.stop(signal);
    aioxide_tests::assert_graceful(&ended);
}

/// A worker of each slot is recycled under load. Nothing is lost, and there are always two that are ready.
fn recycled(isolation: &str, limit: &str) {
    let folder = Folder::new();
    let door = folder.file("door");
    let args = format!("--workers 2 {limit}");
    let variables = [("AIOXIDE_MONITOR", door.to_str().expect("a plain path"))];
    let mut server = traffic(isolation, &args, &variables);
    let address = server.wait_until_ready();
    let done = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let end = SetOnDrop(&done);
        let load = scope.spawn(|| {
            let mut outcomes = Outcomes::default();
            while !done.load(Relaxed) {
                outcomes.count(short(address));
                // There is a minute to fill, and others have something to do, too.
                thread::sleep(Duration::from_millis(5));
            }
            outcomes
        });
        let watch = scope.spawn(|| {
            while !done.load(Relaxed) {
                let workers = json(&line_at(&door, "workers --json"));
                let rows = workers.as_array().expect("rows").iter();
                let ready = rows.filter(|row| row["state"] == "ready").count();
                assert!(ready >= 2, "{workers:#}");
                thread::sleep(Duration::from_millis(20));
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60) + PATIENCE;
        for worker in [0, 1] {
            let recycled = format!("worker {worker} is recycled: ");
            server.wait_until_logged_by(&recycled, deadline);
            let successor = format!("set up worker={worker} generation=1");
            server.wait_until_logged_by(&successor, deadline);
        }
        server.wait_for("rolling restart done");
        drop(end);
        watch.join().expect("there are always two");
        load.join().expect("the load ends")
    });
    assert!(outcomes.served > 100);
    assert_eq!(outcomes.lost, [], "{isolation} {limit}: {outcomes:?}");
    assert_graceful(server, Signal::TERM);
}

/// Side by side, so that there is one minute to wait for all of them.
#[test]
fn workers_are_recycled_by_their_time_their_connections_and_their_memory() {
    thread::scope(|scope| {
        for (isolation, limit) in [
            ("thread", "--recycle-after 1000"),
            ("thread", "--recycle-connections 20"),
            ("process", "--recycle-after 1000"),
            ("process", "--recycle-connections 20"),
            ("process", "--recycle-memory 100000"),
        ] {
            scope.spawn(move || recycled(isolation, limit));
        }
    });
}

/// As a load balancer: who sees that the server isn't ready any more sends nobody there.
#[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
fn who_looks_at_readyz_loses_nothing_when_the_server_stops(isolation: &str) {
    const CLIENTS: usize = 4;
    let stops = rounds("AIOXIDE_TEST_STOPS", 3);
    let mut all = Outcomes::default();
    for _ in 0..stops {
        let args = "--workers 2 --drain-delay 2000";
        let mut server = traffic(isolation, args, &[("AIOXIDE_HEALTH", "127.0.0.1:0")]);
        let health = address_in(&server.wait_until_logged("health: answering on"));
        let address = server.wait_until_ready();
        let out_of_service = AtomicBool::new(false);
        let served = thread::scope(|scope| {
            scope.spawn(|| {
                let _out = SetOnDrop(&out_of_service);
                while http_at(health, "GET", "/readyz").status == 200 {
                    thread::sleep(Duration::from_millis(50));
                }
            });
            let clients = [(); CLIENTS].map(|()| {
                scope.spawn(|| {
                    let mut outcomes = Outcomes::default();
                    while !out_of_service.load(Relaxed) {
                        outcomes.count(short(address));
                    }
                    outcomes
                })
            });
            server.signal(Signal::TERM);
            let served = clients.map(|client| client.join().expect("a client ends"));
            served.into_iter().fold(Outcomes::default(), Outcomes::and)
        });
        let ended = server.wait();
        assert_eq!((ended.code, ended.errors()), (Some(0), Vec::new()));
        all = all.and(served);
    }
    println!(
        "{isolation}: {stops} stops, {} served, {} lost",
        all.served,
        all.lost.len()
    );
    assert!(all.served >= stops);
    assert_eq!(all.lost, []);
}

/// What a process has at a moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    children: usize,
    files: usize,
}

impl Held {
    fn is_no_more_than(self, before: Held) -> bool {
        self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.children <= before.children
            && self.files <= before.files
    }
}

fn held(server: &Running, folder: &Folder) -> Held {
    let count = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let pid = server.pid();
    Held {
        descriptors: count(&format!("/proc/{pid}/fd")),
        threads: count(&format!("/proc/{pid}/task")),
        children: server.children().len(),
        files: std::fs::read_dir(folder.path()).map_or(0, Iterator::count),
    }
}

/// In KiB.
fn resident(server: &Running) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

/// On sockets of each kind.
#[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
fn rolls_leave_nothing_behind(isolation: &str) {
    const WARM_UP: usize = 2;
    let rolls = rounds("AIOXIDE_TEST_ROLLS", 20);
    let folder = Folder::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockets"));
    command
        .args(["--isolation", isolation, "--workers", "2", "--unix"])
        .arg(folder.file("unix"));
    let mut server = Running::start(&mut command);
    server.wait_for("ready, listening on");
    let roll = |server: &mut Running| {
        server.signal(Signal::HUP);
        server.wait_for("rolling restart done");
    };
    for _ in 0..WARM_UP {
        roll(&mut server);
    }
    let (before, memory) = (held(&server, &folder), resident(&server));
    for _ in 0..rolls {
        roll(&mut server);
    }
    // The last predecessors' threads and descriptors go when their ends have been heard, now as before.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = held(&server, &folder);
        if now.is_no_more_than(before) {
            break;
        }
        assert!(Instant::now() < deadline, "{before:?} became {now:?}");
        thread::yield_now();
    }
    let now = resident(&server);
    println!("{isolation}: {rolls} rolls, {before:?}, {memory} KiB became {now} KiB");
    assert!(
        now < memory + memory / 4 + 2048,
        "{memory} KiB became {now} KiB"
    );
    assert_graceful(server, Signal::TERM);
}

aioxide_tests::under_both_isolations!(
    who_looks_at_readyz_loses_nothing_when_the_server_stops,
    rolls_leave_nothing_behind,
);
