//! Listening sockets: their addresses, their files, and who else gets them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use aioxide_tests::{Folder, Running, Signal, assert_closed, assert_graceful, connect};

fn command(program: &str, isolation: &str, args: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace());
    command
}

fn traffic(isolation: &str, args: &str) -> Running {
    Running::start(&mut command(env!("CARGO_BIN_EXE_traffic"), isolation, args))
}

fn sockets(isolation: &str, unix: impl AsRef<Path>, args: &str) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_sockets"), isolation, args);
    command.arg("--unix").arg(unix.as_ref());
    command
}

#[track_caller]
fn serves(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"e").expect("the server reads");
    let mut reply = [0];
    stream.read_exact(&mut reply).expect("the server replies");
    assert_eq!(reply, *b"e");
}

#[track_caller]
fn index(mut stream: impl Read) -> usize {
    let mut index = [0];
    stream.read_exact(&mut index).expect("the server replies");
    index[0].into()
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// What the server says that it listens on.
fn listening(server: &mut Running) -> Vec<SocketAddr> {
    let line = server.wait_for("ready, listening on ");
    let (_, list) = line.split_once("listening on ").expect("a list");
    let (list, _) = list.split_once(" workers=").expect("fields after it");
    let addresses = list.split(", ").map(|address| address.parse());
    addresses
        .collect::<Result<_, _>>()
        .unwrap_or_else(|_| panic!("no addresses in `{line}`"))
}

fn every_address_is_served(isolation: &str) {
    if !has_ipv6() {
        return;
    }
    for listen in ["[::1]:0,127.0.0.1:0", "[::]:0,0.0.0.0:0"] {
        let args = format!("--listen {listen} --on-failure restart");
        let mut server = traffic(isolation, &args);
        let addresses = listening(&mut server);
        assert_eq!(addresses.len(), 2);
        assert_eq!(addresses[0].port(), addresses[1].port());
        for _ in 0..20 {
            addresses.iter().copied().for_each(serves);
        }
        server.signal(Signal::HUP);
        server.wait_for("rolling restart done");
        for _ in 0..20 {
            addresses.iter().copied().for_each(serves);
        }
        assert_graceful(&server.stop(Signal::TERM));
        addresses.into_iter().for_each(assert_closed);
    }
}

fn the_first_address_alone_is_served_if_it_is_to_be(isolation: &str) {
    let mut server = traffic(isolation, "--listen 127.0.0.1:0,127.0.0.2:0 --first");
    let addresses = listening(&mut server);
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    serves(addresses[0]);
    let other = SocketAddr::new([127, 0, 0, 2].into(), addresses[0].port());
    assert_closed(other);
    assert_graceful(&server.stop(Signal::TERM));
}

/// Nobody accepts from the others, so there is nothing that a client could wait in.
fn a_listener_of_another_kind_serves_the_first_address(isolation: &str) {
    if !has_ipv6() {
        return;
    }
    let args = "--listen 127.0.0.1:0,[::1]:0 --own-listener";
    let mut server = traffic(isolation, args);
    let addresses = listening(&mut server);
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    serves(addresses[0]);
    let other = SocketAddr::new("::1".parse().expect("an address"), addresses[0].port());
    assert_closed(other);
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    let told = format!("{other} is one of several addresses of a name");
    assert_eq!(ended.lines(&told).count(), 2, "{:#?}", ended.log);
}

fn an_address_that_is_taken_is_told_by_its_kind(isolation: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (taken, address));
    let (_taken, address) = taken.expect("an address");
    let mut plain = command(env!("CARGO_BIN_EXE_plain"), isolation, "");
    let ended = Running::start(plain.args(["--listen", &address.to_string()])).wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    let told =
        format!("cannot listen on {address}: Address already in use (os error 98) (AddrInUse)");
    assert!(ended.lines(&told).count() > 0, "{:#?}", ended.log);
}

/// It would hold the ports after the server's end.
fn a_program_that_a_worker_starts_gets_no_socket(isolation: &str) {
    let folder = Folder::new();
    let path = folder.file("socket");
    let mut server = Running::start(&mut sockets(isolation, &path, "--lists"));
    for _ in 0..2 {
        let line = server.wait_for("started a program");
        assert!(line.ends_with("sockets=0"), "{line}");
    }
    server.wait_for("2 workers are ready");
    assert_graceful(&server.stop(Signal::TERM));
}

fn an_abstract_name_has_no_file(isolation: &str) {
    let folder = Folder::new();
    let name = format!("aioxide-{isolation}-{}", std::process::id());
    let mut server = sockets(isolation, format!("@{name}"), "");
    let mut server = Running::start(server.current_dir(folder.path()));
    let ready = server.wait_for("2 workers are ready");
    assert!(ready.contains(&format!("@{name}")), "{ready}");
    let connect = || {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name);
        UnixStream::connect_addr(&address.expect("a name"))
    };
    assert!(index(connect().expect("the server accepts")) < 2);
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 0);
    assert_graceful(&server.stop(Signal::TERM));
    assert!(connect().is_err());
}

fn a_unix_socket_in_a_folder_that_is_gone_is_named(isolation: &str) {
    let folder = Folder::new();
    let gone = folder.file("gone");
    std::fs::create_dir(&gone).expect("a folder");
    let program = env!("CARGO_BIN_EXE_sockets");
    let script = format!(
        "rmdir {}; exec {program} --isolation {isolation} --unix socket",
        gone.display()
    );
    let mut shell = Command::new("sh");
    let ended = Running::start(shell.args(["-ec", &script]).current_dir(&gone)).wait();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    let told = "cannot listen on socket: No such file or directory";
    assert!(
        ended.errors().iter().any(|line| line.contains(told)),
        "{:#?}",
        ended.log
    );
}

fn a_socket_file_that_is_deleted_comes_back_with_a_roll(isolation: &str) {
    let folder = Folder::new();
    let path = folder.file("socket");
    let mut server = Running::start(&mut sockets(isolation, &path, ""));
    server.wait_for("2 workers are ready");
    std::fs::remove_file(&path).expect("a socket");
    let told = server.wait_for("is gone, so nobody can connect");
    assert!(told.contains(path.to_str().expect("a path")), "{told}");
    server.signal(Signal::HUP);
    server.wait_for("rolling restart done");
    for _ in 0..50 {
        // Which of them it is, is for the system to say.
        index(UnixStream::connect(&path).expect("the server accepts"));
    }
    assert_graceful(&server.stop(Signal::TERM));
    assert!(!path.exists());
}

/// As two units that were given the same path by mistake.
fn of_two_servers_on_one_path_one_fails(isolation: &str) {
    let folder = Folder::new();
    for round in 0..aioxide_tests::rounds(60) {
        let path = folder.file(format!("{round}"));
        if round % 2 == 0 {
            drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        }
        let servers =
            [(); 2].map(|()| Running::start(&mut sockets(isolation, &path, "--workers 1")));
        let outcomes = servers.map(|mut server| {
            let line = server.wait_for_any(&["1 worker is ready", "failed: cannot listen on"]);
            (line.contains("is ready"), server)
        });
        let ready = outcomes.iter().filter(|(ready, _)| *ready).count();
        assert_eq!(ready, 1, "round {round}");
        index(UnixStream::connect(&path).expect("the one accepts"));
        for (ready, server) in outcomes {
            let ended = match ready {
                true => server.stop(Signal::TERM),
                false => server.wait(),
            };
            assert_eq!(ended.code, Some(i32::from(!ready)), "{:#?}", ended.log);
        }
    }
}

/// Whoever asks for it to be shared.
#[test]
fn a_port_of_one_worker_is_its_servers_alone() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

    let mut server = traffic("process", "--workers 1");
    let address = server.wait_until_ready();
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let intruder = socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket");
    sockopt::set_socket_reuseport(&intruder, true).expect("an option");
    let taken = bind(&intruder, &address).and_then(|()| listen(&intruder, 1));
    assert_eq!(taken, Err(rustix::io::Errno::ADDRINUSE));
    server.signal(Signal::HUP);
    server.wait_for("rolling restart done");
    let taken = bind(&intruder, &address).and_then(|()| listen(&intruder, 1));
    assert_eq!(taken, Err(rustix::io::Errno::ADDRINUSE), "after a roll");
    drop(TcpStream::connect(address).expect("the server accepts"));
    assert_graceful(&server.stop(Signal::TERM));
}

aioxide_tests::under_both_isolations! {
    every_address_is_served,
    of_two_servers_on_one_path_one_fails,
    the_first_address_alone_is_served_if_it_is_to_be,
    a_listener_of_another_kind_serves_the_first_address,
    an_address_that_is_taken_is_told_by_its_kind,
    a_program_that_a_worker_starts_gets_no_socket,
    an_abstract_name_has_no_file,
    a_unix_socket_in_a_folder_that_is_gone_is_named,
    a_socket_file_that_is_deleted_comes_back_with_a_roll,
}
