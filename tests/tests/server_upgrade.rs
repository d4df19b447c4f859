//! A supervisor is replaced by a new one, and no connection is lost.
//!
//! `AIOXIDE_TEST_ROUNDS=200` makes the rounds with random signals and kills as many.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aioxide_tests::{Ended, Folder, PATIENCE, Running, Signal, assert_closed, connect};
use rustix::process::{Pid, kill_process, test_kill_process};

/// A server that is started by a link, so that what is on disk can be changed.
struct Linked {
    folder: Folder,
    server: Option<Running>,
    /// The supervisors, the last one first.
    pids: Vec<Pid>,
}

impl Linked {
    fn start(program: &str, args: &str, variables: &[(&str, &str)]) -> Linked {
        let folder = Folder::new();
        let link = folder.file("server");
        put(&link, program);
        let args = args.replace("FOLDER", folder.path().to_str().expect("a plain path"));
        let mut command = Command::new(link);
        command
            .args(args.split_whitespace())
            .envs(variables.iter().copied());
        let server = Running::start(&mut command);
        Linked {
            folder,
            pids: vec![server.pid()],
            server: Some(server),
        }
    }

    fn log(&mut self) -> &mut Running {
        self.server.as_mut().expect("it hasn't been waited for")
    }

    fn install(&self, program: &str) {
        put(&self.folder.file("server"), program);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pids[0], signal).expect("the supervisor can be signalled");
    }

    /// Asks for an upgrade, and waits until a new supervisor is started.
    fn begin(&mut self) -> Pid {
        self.signal(Signal::USR2);
        let line = self
            .log()
            .wait_for("upgrading: the new supervisor is process");
        let pid = aioxide_tests::pid_in(&line);
        self.pids.insert(0, pid);
        pid
    }

    fn upgrade(&mut self) {
        self.begin();
        self.log().wait_for("upgraded: this supervisor serves");
    }

    /// The new one did not make it.
    fn forget_newest(&mut self) {
        self.pids.remove(0);
    }

    fn wait(mut self) -> Ended {
        self.server.take().expect("it is waited for once").wait()
    }

    fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Linked {
    /// Leaves nothing behind when a test fails.
    fn drop(&mut self) {
        if self.server.is_some() {
            for pid in &self.pids {
                let _ = kill_process(*pid, Signal::KILL);
            }
        }
    }
}

/// At once, so that there always is one.
fn put(link: &PathBuf, program: &str) {
    let new = link.with_extension("new");
    std::os::unix::fs::symlink(program, &new).expect("a link can be made");
    std::fs::rename(&new, link).expect("a link can be moved");
}

fn traffic(isolation: &str, more: &str) -> Linked {
    traffic_with(isolation, more, &[])
}

fn traffic_with(isolation: &str, more: &str, variables: &[(&str, &str)]) -> Linked {
    let args = format!("--isolation {isolation} --upgrade new_pid {more}");
    Linked::start(env!("CARGO_BIN_EXE_traffic"), &args, variables)
}

/// One request: a byte that comes back.
fn short(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"e")?;
    let mut reply = [0];
    stream.read_exact(&mut reply)?;
    assert_eq!(&reply, b"e");
    match stream.read(&mut reply)? {
        0 => Ok(()),
        _ => panic!("more than was asked for"),
    }
}

/// Clients that ask again and again.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<BTreeMap<String, usize>>>,
}

impl Load {
    fn on(address: SocketAddr) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..4).map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut outcomes = BTreeMap::new();
                loop {
                    let outcome = match short(address) {
                        Ok(()) => "served".to_owned(),
                        Err(error) => error.kind().to_string(),
                    };
                    *outcomes.entry(outcome).or_default() += 1;
                    // After a request, however busy the machine is.
                    if stop.load(Relaxed) {
                        return outcomes;
                    }
                }
            })
        });
        Load {
            clients: clients.collect(),
            stop,
        }
    }

    /// How often what came of a request.
    fn end(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Relaxed);
        let mut all = BTreeMap::new();
        for client in self.clients {
            for (outcome, count) in client.join().expect("no client panics") {
                *all.entry(outcome).or_default() += count;
            }
        }
        all
    }

    #[track_caller]
    fn lost_nothing(self) {
        let outcomes = self.end();
        assert_eq!(
            outcomes.keys().collect::<Vec<_>>(),
            ["served"],
            "{outcomes:?}"
        );
    }
}

/// The file in the proc file system is gone, or that of a zombie.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    test_kill_process(pid).is_ok() && state.is_some_and(|state| !state.starts_with('Z'))
}

#[track_caller]
fn wait_until_gone(pid: Pid) {
    let deadline = Instant::now() + PATIENCE;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "{pid} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A connection on which the old workers wait until their deadline.
fn holds(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"i").expect("it is sent");
    stream.read_exact(&mut [0]).expect("it is answered");
    stream
}

fn an_upgrade_under_load_loses_nothing(isolation: &str) {
    let mut server = traffic(isolation, "--workers 3");
    let address = server.log().wait_until_ready();
    let load = Load::on(address);
    for _ in 0..3 {
        let old = server.pids[0];
        server.upgrade();
        wait_until_gone(old);
    }
    load.lost_nothing();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "the first one: {:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert_eq!(ended.lines("stopping: SIGTERM").count(), 1);
    assert_closed(address);
}

fn what_cannot_take_over_changes_nothing(isolation: &str) {
    for (what, told) in [
        ("crashes", "it has ended: signal: 6"),
        ("fails", "it has ended: exit status: 7"),
        ("another-format", "aioxide 9.9.9 (handover format 999)"),
        ("stranger", "is not aioxide"),
        ("hangs", "it has not greeted within 10s"),
    ] {
        let variables = [("AIOXIDE_TEST_SUCCESSOR", what)];
        let mut server = traffic_with(isolation, "", &variables);
        let address = server.log().wait_until_ready();
        let load = Load::on(address);
        server.install(env!("CARGO_BIN_EXE_no_successor"));
        let new = server.begin();
        let line = server.log().wait_for("upgrade failed");
        assert!(line.contains(told), "{what}: {line}");
        server.log().wait_for("is gone");
        assert!(!is_alive(new), "{what}");
        server.forget_newest();
        // What is put there now can.
        server.install(env!("CARGO_BIN_EXE_traffic"));
        server.upgrade();
        load.lost_nothing();
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{what}: {:#?}", ended.log);
        assert_closed(address);
    }
}

fn a_stop_meanwhile_stops_both(isolation: &str) {
    let mut server = traffic(isolation, "--slow-start 1500");
    let address = server.log().wait_until_ready();
    let (old, new) = (server.pids[0], server.begin());
    server.log().wait_for("set up");
    kill_process(old, Signal::TERM).expect("it can be signalled");
    wait_until_gone(old);
    assert!(!is_alive(new), "the old one waits for the new one");
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert_closed(address);
}

fn an_orphan_goes_on(isolation: &str) {
    let mut server = traffic(isolation, "--slow-start 1500");
    let address = server.log().wait_until_ready();
    let old = server.pids[0];
    server.begin();
    server.log().wait_for("set up");
    kill_process(old, Signal::KILL).expect("it can be killed");
    server.log().wait_for("has died; this one goes on");
    assert_eq!(server.log().wait_until_ready(), address);
    let load = Load::on(address);
    // It is a supervisor like any other.
    server.upgrade();
    load.lost_nothing();
    let ended = server.stop();
    assert_eq!(ended.signal, Some(9), "the first one");
    assert_closed(address);
}

fn the_rest_ends_with_1_when_the_new_one_dies(isolation: &str) {
    let mut server = traffic(isolation, "");
    let address = server.log().wait_until_ready();
    let (old, held) = (server.pids[0], holds(address));
    server.upgrade();
    assert!(is_alive(old), "it waits for a connection");
    server.signal(Signal::KILL);
    let ended = server.wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert_eq!(ended.lines("nobody serves any more").count(), 1);
    drop(held);
    assert_closed(address);
}

fn a_stop_of_the_old_one_changes_nothing_while_it_drains(isolation: &str) {
    let mut server = traffic(isolation, "");
    let address = server.log().wait_until_ready();
    let (old, held) = (server.pids[0], holds(address));
    server.upgrade();
    // To the old one alone: it changes nothing.
    kill_process(old, Signal::TERM).expect("it can be signalled");
    short(address).expect("the new one serves");
    assert!(is_alive(old));
    drop(held);
    wait_until_gone(old);
    short(address).expect("the new one serves");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_closed(address);
}

fn a_stop_of_the_new_one_is_no_death(isolation: &str) {
    let mut server = traffic(isolation, "--shutdown-timeout 3000");
    let address = server.log().wait_until_ready();
    let held = holds(address);
    let old = server.pids[0];
    server.upgrade();
    let new = server.pids[0];
    server.signal(Signal::TERM);
    wait_until_gone(new);
    assert!(is_alive(old), "it waits for a connection");
    drop(held);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert_closed(address);
}

fn every_kind_of_socket_goes_over(isolation: &str) {
    let args = format!(
        "--isolation {isolation} --upgrade new_pid --workers 1 --unix FOLDER/unix --monitor FOLDER/door"
    );
    let mut server = Linked::start(env!("CARGO_BIN_EXE_sockets"), &args, &[]);
    let (unix, door) = (server.folder.file("unix"), server.folder.file("door"));
    let listens = |line: String| line.split_once("first=").map(|(_, at)| at.to_owned());
    let before = listens(server.log().wait_for("listens"));
    server.log().wait_for("ready, listening on");
    let inode = |path: &PathBuf| std::fs::metadata(path).expect("it is there").ino();
    let inodes = (inode(&unix), inode(&door));
    for _ in 0..2 {
        let old = server.pids[0];
        let done = std::thread::spawn({
            let door = door.clone();
            move || ask(&door, "upgrade")
        });
        let line = server
            .log()
            .wait_for("upgrading: the new supervisor is process");
        server.pids.insert(0, aioxide_tests::pid_in(&line));
        assert_eq!(listens(server.log().wait_for("listens")), before);
        let done = done.join().expect("the client ends");
        let new = server.pids[0];
        assert!(
            done.ends_with(&format!("upgraded: the new supervisor is process {new}\n")),
            "{done}"
        );
        server.log().wait_for("upgraded: this supervisor serves");
        wait_until_gone(old);
        let mut stream = UnixStream::connect(&unix).expect("the new one accepts");
        stream.read_exact(&mut [0]).expect("it answers");
        assert_eq!((inode(&unix), inode(&door)), inodes);
        let told = ask(&door, "server");
        assert!(told.contains(&new.to_string()), "{told}");
    }
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    assert!(
        !unix.exists() && !door.exists(),
        "the last one removes them"
    );
}

/// What a line at the door gives.
fn ask(door: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(door).expect("the door is open");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("it can be set");
    stream
        .write_all(format!("{line}\n").as_bytes())
        .expect("it is sent");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("that is all");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it is answered");
    reply
}

fn the_number_of_workers_goes_over_where_it_was_changed(isolation: &str) {
    let mut server = traffic(isolation, "--workers 1");
    server.log().wait_until_ready();
    server.upgrade();
    server.signal(Signal::TTIN);
    server.log().wait_for("worker 1 is ready");
    server.begin();
    server.log().wait_for("2 workers are ready");
    server.log().wait_for("upgraded: this supervisor serves");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

fn it_is_refused_where_it_would_be_the_end(isolation: &str) {
    let args = format!("--isolation {isolation}");
    let mut server = Linked::start(env!("CARGO_BIN_EXE_traffic"), &args, &[]);
    let address = server.log().wait_until_ready();
    server.signal(Signal::USR2);
    let line = server.log().wait_for("upgrade refused");
    assert!(line.contains("would have another pid"), "{line}");
    short(address).expect("it serves on");
    // Its workers swallow it, too.
    let children = server.log().children();
    for child in children {
        kill_process(child, Signal::USR2).expect("it can be signalled");
    }
    short(address).expect("it serves on");
    assert_eq!(server.stop().code, Some(0));

    let mut server = traffic(isolation, "--slow-start 1000");
    server.log().wait_until_ready();
    server.begin();
    kill_process(server.pids[1], Signal::USR2).expect("it can be signalled");
    server.log().wait_for("upgrade refused: one is under way");
    server.log().wait_for("upgraded: this supervisor serves");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn without_the_signal_it_is_the_programs_own() {
    let args = "--upgrade new_pid --no-upgrade-signal";
    let mut server = Linked::start(env!("CARGO_BIN_EXE_traffic"), args, &[]);
    server.log().wait_until_ready();
    server.signal(Signal::USR2);
    let ended = server.wait();
    assert_eq!(
        ended.signal,
        Some(Signal::USR2.as_raw()),
        "its default action"
    );
}

#[derive(Clone, Copy, Debug)]
enum Blow {
    None,
    Old(Signal),
    New(Signal),
}

/// What there is after a blow at a random instant: one server, or none if one was asked to stop, or if the new one
/// was killed when it alone served.
fn it_always_ends_with_one_server_or_none(isolation: &str) {
    let rounds = std::env::var("AIOXIDE_TEST_ROUNDS").ok();
    let rounds: u32 = rounds.map_or(5, |rounds| rounds.parse().expect("a number"));
    for round in 0..rounds {
        let blows = [
            Blow::None,
            Blow::Old(Signal::KILL),
            Blow::New(Signal::KILL),
            Blow::Old(Signal::TERM),
            Blow::New(Signal::TERM),
        ];
        let random = RandomState::new().build_hasher().finish();
        let (blow, after) = (blows[round as usize % 5], random % 400);
        one_round(isolation, blow, Duration::from_millis(after));
    }
}

fn one_round(isolation: &str, blow: Blow, after: Duration) {
    let mut server = traffic(isolation, "--slow-start 100 --shutdown-timeout 5000");
    let address = server.log().wait_until_ready();
    let old = server.pids[0];
    let new = server.begin();
    // An instant like any other.
    thread::sleep(after);
    let (hit, signal) = match blow {
        Blow::None => (None, Signal::TERM),
        Blow::Old(signal) => (Some(old), signal),
        Blow::New(signal) => (Some(new), signal),
    };
    if let Some(hit) = hit {
        let _ = kill_process(hit, signal);
    }
    let deadline = Instant::now() + PATIENCE;
    let alive = loop {
        let alive: Vec<Pid> = [old, new]
            .into_iter()
            .filter(|pid| is_alive(*pid))
            .collect();
        if alive.len() < 2 {
            break alive;
        }
        assert!(
            Instant::now() < deadline,
            "{blow:?} after {after:?}: two servers"
        );
        thread::sleep(Duration::from_millis(10));
    };
    server.pids = vec![old, new];
    match &alive[..] {
        [] => assert!(
            !matches!(blow, Blow::None | Blow::Old(Signal::KILL)),
            "{blow:?} after {after:?}: no server"
        ),
        [one] => {
            // One that was asked to stop may have yet to end.
            match short(address) {
                Ok(()) => {}
                Err(error) => {
                    let asked = matches!(blow, Blow::Old(Signal::TERM) | Blow::New(_));
                    let orphan = matches!(blow, Blow::Old(Signal::KILL));
                    assert!(asked || orphan, "{blow:?} after {after:?}: {error}");
                    if orphan {
                        server.log().wait_for("ready, listening on");
                        short(address).expect("the orphan serves");
                    }
                }
            }
            let _ = kill_process(*one, Signal::TERM);
        }
        both => panic!("{blow:?} after {after:?}: {both:?}"),
    }
    let ended = server.wait();
    let panics = ended.lines("panicked at").count();
    assert_eq!(panics, 0, "{blow:?} after {after:?}: {:#?}", ended.log);
    assert_closed(address);
}

aioxide_tests::under_both_isolations!(
    an_upgrade_under_load_loses_nothing,
    what_cannot_take_over_changes_nothing,
    a_stop_meanwhile_stops_both,
    an_orphan_goes_on,
    the_rest_ends_with_1_when_the_new_one_dies,
    a_stop_of_the_old_one_changes_nothing_while_it_drains,
    a_stop_of_the_new_one_is_no_death,
    every_kind_of_socket_goes_over,
    the_number_of_workers_goes_over_where_it_was_changed,
    it_is_refused_where_it_would_be_the_end,
    it_always_ends_with_one_server_or_none,
);
