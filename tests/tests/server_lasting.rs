//! What shows only after a while: recycling, which no worker is due for in its first minute, many stops, and what many
//! rolls, upgrades and recyclings leave behind.
//!
//! `AIOXIDE_TEST_STOPS=100`, `AIOXIDE_TEST_ROLLS=1000`, `AIOXIDE_TEST_UPGRADES=1000` and `AIOXIDE_TEST_RECYCLINGS=1000` make
//! it last: a thousand rolls or upgrades about five minutes, a thousand recyclings, of a hundred workers, eleven.
//!
//! ```sh
//! AIOXIDE_TEST_UPGRADES=1000 cargo test -p aioxide-tests --test server_lasting upgrades_leave -- --nocapture
//! AIOXIDE_TEST_RECYCLINGS=1000 cargo test -p aioxide-tests --test server_lasting recycled -- --nocapture
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use aioxide_tests::door::{http_at, json, line_at};
use aioxide_tests::replaced::{Linked, wait_until_gone};
use aioxide_tests::{Folder, PATIENCE, Running, SetOnDrop, Signal, address_in, asked};
use rustix::process::Pid;

/// A connection that isn't served within this time has been forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

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
        for isolation in ["thread", "process"] {
            scope.spawn(move || recyclings_leave_nothing_behind(isolation));
        }
    });
}

/// As a load balancer: who sees that the server isn't ready any more sends nobody there.
#[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
fn who_looks_at_readyz_loses_nothing_when_the_server_stops(isolation: &str) {
    const CLIENTS: usize = 4;
    let stops = asked("AIOXIDE_TEST_STOPS", 3);
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

/// What a server has at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Those of the supervisor.
    descriptors: usize,
    threads: usize,
    /// All that belong to the server.
    processes: usize,
    files: usize,
}

impl Held {
    fn is_no_more_than(self, before: Held) -> bool {
        self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.processes <= before.processes
            && self.files <= before.files
    }
}

/// What is held by the newest supervisor and its server.
fn held(server: &mut Linked) -> Held {
    let supervisor = server.pids[0];
    let count = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    Held {
        descriptors: count(&format!("/proc/{supervisor}/fd")),
        threads: count(&format!("/proc/{supervisor}/task")),
        processes: server.log().processes().len(),
        files: std::fs::read_dir(server.folder.path()).map_or(0, Iterator::count),
    }
}

/// In KiB.
fn resident(supervisor: Pid) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{supervisor}/status"));
    let status = status.expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

/// What a server has before something is done to it again and again.
struct Before {
    held: Held,
    memory: usize,
}

impl Before {
    /// Once the last of what was done before that has gone.
    fn now(server: &mut Linked) -> Before {
        let supervisor = server.pids[0];
        let mut held_now = held(server);
        loop {
            // Nothing tells when threads and descriptors of the past are gone.
            thread::sleep(Duration::from_millis(200));
            let last = std::mem::replace(&mut held_now, held(server));
            if last == held_now {
                return Before {
                    held: held_now,
                    memory: resident(supervisor),
                };
            }
        }
    }

    /// What was done has left nothing behind.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
    fn assert_no_more_is_held(self, server: &mut Linked, done: &str) {
        let supervisor = server.pids[0];
        let Before {
            held: before,
            memory,
        } = self;
        // The last predecessors' threads and descriptors go when their ends have been heard, now as before.
        let deadline = Instant::now() + PATIENCE;
        let now = loop {
            let now = held(server);
            if now.is_no_more_than(before) {
                break now;
            }
            assert!(
                Instant::now() < deadline,
                "{done}: {before:?} became {now:?}"
            );
            thread::sleep(Duration::from_millis(20));
        };
        let memory_now = resident(supervisor);
        println!("{done}: {before:?} became {now:?}, {memory} KiB became {memory_now} KiB");
        assert!(
            memory_now < memory + memory / 4 + 2048,
            "{done}: {memory} KiB became {memory_now} KiB"
        );
    }
}

/// On sockets of each kind.
fn sockets(isolation: &str, more: &str) -> Linked {
    let args = format!("--isolation {isolation} --unix FOLDER/unix {more}");
    let mut server = Linked::start(env!("CARGO_BIN_EXE_sockets"), &args, &[]);
    server.log().wait_for("ready, listening on");
    server
}

const WARM_UP: usize = 2;

fn roll(server: &mut Linked) {
    server.signal(Signal::HUP);
    server.log().wait_for("rolling restart done");
}

fn rolls_leave_nothing_behind(isolation: &str) {
    let rolls = asked("AIOXIDE_TEST_ROLLS", 20);
    let mut server = sockets(isolation, "");
    (0..WARM_UP).for_each(|_| roll(&mut server));
    let before = Before::now(&mut server);
    (0..rolls).for_each(|_| roll(&mut server));
    before.assert_no_more_is_held(&mut server, &format!("{isolation}: {rolls} rolls"));
    aioxide_tests::assert_graceful(&server.stop());
}

/// The last supervisor has what one of the first had.
fn upgrades_leave_nothing_behind(isolation: &str) {
    let upgrades = asked("AIOXIDE_TEST_UPGRADES", 10);
    let mut server = sockets(isolation, "--upgrade new_pid --monitor FOLDER/door");
    let upgrade = |server: &mut Linked| {
        server.upgrade();
        let old = server.pids.pop().expect("the one before");
        wait_until_gone(old);
    };
    (0..WARM_UP).for_each(|_| upgrade(&mut server));
    let before = Before::now(&mut server);
    (0..upgrades).for_each(|_| upgrade(&mut server));
    before.assert_no_more_is_held(&mut server, &format!("{isolation}: {upgrades} upgrades"));
    aioxide_tests::assert_graceful(&server.stop());
}

/// Many at once are due each minute.
fn recyclings_leave_nothing_behind(isolation: &str) {
    let recyclings: usize = asked("AIOXIDE_TEST_RECYCLINGS", 4);
    let workers = recyclings.min(100);
    let more = format!("--workers {workers} --recycle-after 1000");
    let mut server = sockets(isolation, &more);
    (0..WARM_UP).for_each(|_| roll(&mut server));
    let before = Before::now(&mut server);
    let minutes = recyclings.div_ceil(workers) as u32;
    let deadline = Instant::now() + Duration::from_secs(90) * minutes + PATIENCE;
    let log = server.log();
    let start = log.logged().len();
    loop {
        let mut count = |text: &str| {
            let lines = log.logged()[start..].iter();
            lines.filter(|line| line.contains(text)).count()
        };
        let begun = count("is recycled: ");
        if begun >= recyclings && count("rolling restart done") >= begun {
            break;
        }
        assert!(Instant::now() < deadline, "{begun} of {recyclings}");
        thread::sleep(Duration::from_millis(100));
    }
    before.assert_no_more_is_held(
        &mut server,
        &format!("{isolation}: {recyclings} recyclings"),
    );
    let ended = server.stop();
    // A hundred workers that start on a busy machine are told to be blocked, as they are.
    let mut errors = ended.errors();
    errors.retain(|line| !line.contains("has been blocked for"));
    assert_eq!((ended.code, errors), (Some(0), Vec::new()));
}

aioxide_tests::under_both_isolations!(
    who_looks_at_readyz_loses_nothing_when_the_server_stops,
    rolls_leave_nothing_behind,
    upgrades_leave_nothing_behind,
);
