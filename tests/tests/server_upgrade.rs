//! A supervisor is replaced by a new one, and no connection is lost.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use aioxide_tests::replaced::{Linked, Load, hold, short, wait_until_gone};
use aioxide_tests::{PATIENCE, Signal, assert_closed, is_alive};
use rustix::process::kill_process;

fn traffic(isolation: &str, more: &str) -> Linked {
    traffic_with(isolation, more, &[])
}

fn traffic_with(isolation: &str, more: &str, variables: &[(&str, &str)]) -> Linked {
    let args = format!("--isolation {isolation} --upgrade new_pid {more}");
    Linked::start(env!("CARGO_BIN_EXE_traffic"), &args, variables)
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
    let (old, held) = (server.pids[0], hold(address));
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
    let (old, held) = (server.pids[0], hold(address));
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
    let held = hold(address);
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
        server.begun();
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
);
