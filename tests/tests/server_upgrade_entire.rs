//! All that a server has beside its workers, when its supervisor is replaced: the main context, extras, health checks, a
//! timer that one worker runs, the door. And where there can be no replacement.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use aioxide::{Worker, server};
use aioxide_tests::door::{http_at, line_at};
use aioxide_tests::replaced::{Linked, wait_until_gone};
use aioxide_tests::{
    Folder, PATIENCE, Process, SetOnDrop, address_in, assert_closed, connect, is_alive,
};
use rustix::process::Pid;

/// The addresses of a server that is ready.
struct Addresses {
    workers: SocketAddr,
    side: SocketAddr,
    health: SocketAddr,
}

fn start(isolation: &str, more: &str) -> (Linked, Addresses) {
    let args = format!(
        "--isolation {isolation} --upgrade new_pid --hangs FOLDER/hangs --monitor FOLDER/door {more}"
    );
    let variables = [("AIOXIDE_HEALTH", "127.0.0.1:0")];
    let mut server = Linked::start(env!("CARGO_BIN_EXE_entire"), &args, &variables);
    let log = server.log();
    log.wait_for("ready, listening on");
    let workers = address_in(&log.wait_until_logged("worker: listens on"));
    let side = address_in(&log.wait_until_logged("side: listens on"));
    let health = address_in(&log.wait_until_logged("health: answering on"));
    let addresses = Addresses {
        workers,
        side,
        health,
    };
    (server, addresses)
}

/// The process that answers there.
fn process_at(address: SocketAddr) -> Pid {
    let mut number = [0; 4];
    let read = connect(address).read_exact(&mut number);
    read.expect("it answers");
    Pid::from_raw(i32::from_be_bytes(number)).expect("a process")
}

/// Who answers there is this supervisor, or a process of its own.
#[track_caller]
fn assert_of(server: &mut Linked, supervisor: Pid, address: SocketAddr) {
    let answers = process_at(address);
    let is_of =
        |it: &Process| it.pid == answers && (it.pid == supervisor || it.parent == supervisor);
    let processes = server.log().processes();
    assert!(
        processes.iter().any(is_of),
        "{answers} of {processes:?}, not of {supervisor}"
    );
}

/// Where the one line that contains this stands in the log.
#[track_caller]
fn place(log: &[String], text: &str) -> usize {
    let found = log
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains(text));
    match found.collect::<Vec<_>>()[..] {
        [(place, _)] => place,
        ref others => panic!("`{text}`: {others:?}"),
    }
}

fn all_of_it_is_replaced(isolation: &str) {
    let (mut server, addresses) = start(isolation, "");
    let old = server.pids[0];
    let first_tick = format!("tick entered_by={old} ");
    server.log().wait_until_logged(&first_tick);
    let done = AtomicBool::new(false);
    let new = thread::scope(|scope| {
        let end = SetOnDrop(&done);
        // As a probe does it, which takes no answer for a dead server.
        let probe = scope.spawn(|| {
            let mut probes = 0;
            while !done.load(Relaxed) {
                for path in ["/livez", "/readyz"] {
                    let response = http_at(addresses.health, "GET", path);
                    assert_eq!(response.status, 200, "{path}: {}", response.body);
                    probes += 1;
                }
                thread::sleep(Duration::from_millis(2));
            }
            probes
        });
        server.upgrade();
        wait_until_gone(old);
        let new = server.pids[0];
        server
            .log()
            .wait_until_logged(&format!("tick entered_by={new} "));
        drop(end);
        assert!(probe.join().expect("each probe is answered with 200") > 0);
        new
    });

    // The same addresses, the door among them, and all that answers there is the new one's.
    for address in [addresses.side, addresses.workers] {
        assert_of(&mut server, new, address);
    }
    let told = line_at(&server.folder.file("door"), "server");
    assert!(told.contains(&new.to_string()), "{told}");

    // Ticks are the new one's, by one of its workers.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = server.log().logged();
        let who = log
            .iter()
            .filter_map(|line| line.split("tick entered_by=").nth(1));
        let last: BTreeSet<&str> = who.rev().take(5).collect();
        let of_new = |who: &&str| who.starts_with(&format!("{new} "));
        if last.len() == 1 && last.iter().all(of_new) {
            break;
        }
        assert!(Instant::now() < deadline, "{last:?}");
        thread::sleep(Duration::from_millis(10));
    }

    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new());
    // Each main context is entered and left once; the new one's while the old one is still held.
    let [entered_old, entered_new, left_old, left_new] = [
        format!("main context of {old}: entered"),
        format!("main context of {new}: entered"),
        format!("main context of {old}: left"),
        format!("main context of {new}: left"),
    ]
    .map(|text| place(&ended.log, &text));
    let places = [entered_old, entered_new, left_old, left_new];
    assert!(places.is_sorted(), "{places:?}: {:#?}", ended.log);
    for (part, times) in [("side: torn down", 2), ("idle: torn down", 2)] {
        assert_eq!(ended.lines(part).count(), times, "{part}: {:#?}", ended.log);
    }
    for address in [addresses.workers, addresses.side, addresses.health] {
        assert_closed(address);
    }
}

fn one_that_does_not_get_ready_in_time_is_given_up(isolation: &str) {
    let (mut server, addresses) = start(isolation, "--start-timeout 1500");
    let old = server.pids[0];
    let hangs = server.folder.file("hangs");
    std::fs::write(&hangs, "").expect("a file can be written");
    let new = server.begin();
    let line = server
        .log()
        .wait_for("upgrade failed, and this supervisor serves on");
    assert!(line.contains("1.5s"), "{line}");
    wait_until_gone(new);
    // It has left what it had entered, and all of the old one is as it was.
    server
        .log()
        .wait_until_logged(&format!("main context of {new}: left"));
    assert!(is_alive(old));
    assert_eq!(http_at(addresses.health, "GET", "/readyz").status, 200);
    for address in [addresses.side, addresses.workers] {
        assert_of(&mut server, old, address);
    }
    let door = server.folder.file("door");
    let told = line_at(&door, "server");
    assert!(told.contains(&old.to_string()), "{told}");

    // The next one can.
    server.forget_newest();
    std::fs::remove_file(&hangs).expect("it is there");
    server.upgrade();
    wait_until_gone(old);
    let new = server.pids[0];
    assert_of(&mut server, new, addresses.side);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    for address in [addresses.workers, addresses.side, addresses.health] {
        assert_closed(address);
    }
}

#[server(workers = 1, upgrade = new_pid)]
async fn started_by_a_test(worker: Worker) {
    drop(worker);
    yield_().await;
}

/// It is a part of a program, which goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_started_is_not_replaced() {
    let folder = Folder::new();
    let door = folder.file("door");
    let running = started_by_a_test().monitor(&*door).start();
    running.ready().await.expect("it gets ready");
    let asked = tokio::task::spawn_blocking({
        let door = door.clone();
        move || line_at(&door, "upgrade")
    });
    let told = asked.await.expect("the door answers");
    assert!(
        told.contains("`Server::start` runs it inside a program"),
        "{told}"
    );
    let asked = tokio::task::spawn_blocking(move || line_at(&door, "workers"));
    let told = asked.await.expect("the door answers");
    assert!(told.contains("ready"), "{told}");
    assert_eq!(running.stop().await, 0);
}

aioxide_tests::under_both_isolations!(
    all_of_it_is_replaced,
    one_that_does_not_get_ready_in_time_is_given_up,
);
