//! What a server says to systemd, heard by a socket in its place.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::{Duration, Instant};

use aioxide_tests::notify::FakeSystemd;
use aioxide_tests::{PATIENCE, Running, Signal, assert_closed, connect};

fn plain(isolation: &str, args: &str, systemd: &FakeSystemd) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plain"));
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace())
        .env("NOTIFY_SOCKET", systemd.name());
    command
}

#[track_caller]
fn value(lines: &[String], key: &str) -> String {
    let value = lines.iter().find_map(|line| line.strip_prefix(key));
    let value = value.and_then(|rest| rest.strip_prefix('='));
    value
        .unwrap_or_else(|| panic!("no {key} in {lines:?}"))
        .to_owned()
}

#[track_caller]
fn assert_graceful(server: Running) {
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.errors(), Vec::<&str>::new(), "{:#?}", ended.log);
}

fn the_life_of_a_server_is_told(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let mut server = Running::start(&mut plain(isolation, "--slow-start 300", &systemd));
    let starting = systemd.wait_for("EXTEND_TIMEOUT_USEC=");
    let micros: u64 = value(&starting, "EXTEND_TIMEOUT_USEC").parse().unwrap();
    assert!((1..=30_000_000).contains(&micros), "{micros}");
    let ready = systemd.wait_for("READY=1");
    let address = server.wait_until_ready();
    assert_eq!(
        value(&ready, "STATUS"),
        format!("2 workers are ready, listening on {address}")
    );

    let before = monotonic_micros();
    server.signal(Signal::HUP);
    let reloading = systemd.wait_for("RELOADING=1");
    let micros: i64 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
    assert!((before..=monotonic_micros()).contains(&micros));
    systemd.wait_for("EXTEND_TIMEOUT_USEC=");
    let done = systemd.wait_for("READY=1");
    assert!(value(&done, "STATUS").ends_with("; rolling restart done"));

    server.signal(Signal::TERM);
    let stopping = systemd.wait_for("STOPPING=1");
    assert_eq!(
        value(&stopping, "STATUS"),
        "stopping: SIGTERM; rolling restart done"
    );
    systemd.wait_for("EXTEND_TIMEOUT_USEC=");
    assert_graceful(server);
}

fn an_abstract_name_and_the_watchdog_are_served(isolation: &str) {
    let mut systemd = FakeSystemd::abstract_name();
    let mut command = plain(isolation, "", &systemd);
    command.env("WATCHDOG_USEC", "200000");
    let server = Running::start(&mut command);
    systemd.wait_for("READY=1");
    for _ in 0..5 {
        systemd.wait_for("WATCHDOG=1");
    }
    server.signal(Signal::TERM);
    assert_graceful(server);
}

fn a_watchdog_for_another_process_is_not_fed(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let mut command = plain(isolation, "", &systemd);
    command
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1");
    let server = Running::start(&mut command);
    systemd.wait_for("READY=1");
    server.signal(Signal::TERM);
    systemd.wait_for("STOPPING=1");
    assert_graceful(server);
    let rest = systemd.rest(Duration::ZERO);
    let fed = rest.iter().flatten().any(|line| line == "WATCHDOG=1");
    assert!(!fed, "{rest:?}");
}

/// The socket's queue holds ten datagrams or so.
fn what_finds_no_room_is_said_again(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let mut command = plain(isolation, "--slow-start 100", &systemd);
    command.env("WATCHDOG_USEC", "2000");
    let mut server = Running::start(&mut command);
    // By then the queue has long been full, and nobody waits for it.
    server.wait_until_ready();
    systemd.wait_for("READY=1");
    server.signal(Signal::TERM);
    assert_graceful(server);
}

fn a_manager_that_is_gone_keeps_nobody(isolation: &str) {
    let systemd = FakeSystemd::at_path();
    let mut command = plain(isolation, "", &systemd);
    drop(systemd);
    let mut server = Running::start(&mut command);
    server.wait_until_ready();
    server.signal(Signal::TERM);
    let ended = server.wait();
    assert_eq!((ended.code, ended.errors()), (Some(0), Vec::new()));
    let told: Vec<_> = ended.lines("systemd can't be told").collect();
    assert_eq!(told.len(), 1, "{:#?}", ended.log);
}

/// It stays one line, whatever the error says.
fn a_failure_is_part_of_the_status(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let mut command = plain(isolation, "--fails start", &systemd);
    let server = Running::start(&mut command);
    let stopping = systemd.wait_for("STOPPING=1");
    let status = value(&stopping, "STATUS");
    assert!(
        status.starts_with("stopping: a worker failed; last failure: worker "),
        "{status}"
    );
    assert!(status.ends_with("failed: its own mistake"), "{status}");
    assert_eq!(server.wait().code, Some(1));
}

/// What is systemd's in the environment is the supervisor's alone, with processes.
fn workers_know_nothing_of_systemd(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let folder = aioxide_tests::Folder::new();
    let file = folder.file("environment");
    let mut command = plain(isolation, "", &systemd);
    command
        .args(["--grandchild", &format!("env > {}", file.display())])
        .envs([
            ("WATCHDOG_USEC", "30000000"),
            ("LISTEN_PID", "1"),
            ("LISTEN_FDS", "0"),
            ("LISTEN_FDNAMES", "http"),
            ("FDSTORE", "4"),
            ("LISTEN_ADDRESS", "is the program's own"),
        ]);
    let server = Running::start(&mut command);
    systemd.wait_for("READY=1");
    server.signal(Signal::TERM);
    assert_graceful(server);
    let environment = std::fs::read_to_string(file).unwrap();
    let begins = |start: &str| environment.lines().any(|line| line.starts_with(start));
    assert!(begins("LISTEN_ADDRESS="), "{environment}");
    if isolation == "process" {
        for start in ["NOTIFY_", "WATCHDOG_", "LISTEN_PID", "LISTEN_FD", "FDSTORE"] {
            assert!(!begins(start), "{start}: {environment}");
        }
    }
}

/// Started as systemd does it that has this socket open under the name `http`. With `whose` being `$$`, it is meant for the
/// program.
fn activated(isolation: &str, args: &str, whose: &str, listener: &TcpListener) -> Running {
    let args = format!("--isolation {isolation} {args}");
    let plain = env!("CARGO_BIN_EXE_plain");
    let command = &mut launched(plain, &args, whose, "http");
    Running::start_with(command, cloned(listener))
}

/// A program started as systemd does it, with as many sockets as there are names: what is its stdin, and its stdout.
fn launched(program: &str, args: &str, whose: &str, names: &str) -> Command {
    let count = names.split(':').count();
    let script = format!(
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID={whose} LISTEN_FDS={count} LISTEN_FDNAMES={names}; \
         exec \"$0\" \"$@\""
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, program])
        .args(args.split_whitespace());
    command
}

fn cloned(socket: impl AsFd) -> OwnedFd {
    let socket = socket.as_fd().try_clone_to_owned();
    socket.expect("it can be cloned")
}

/// The connection has been accepted: `plain` closes it.
#[track_caller]
fn assert_accepted(mut connection: TcpStream) {
    let read = connection.read(&mut [0; 1]);
    assert_eq!(read.expect("it isn't reset"), 0);
}

fn a_socket_of_systemd_is_taken_by_address_and_by_name(isolation: &str) {
    for by_name in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // As the one that has the server started.
        let first = connect(address);
        let asked = match by_name {
            true => "named:http".to_owned(),
            false => address.to_string(),
        };
        let mut server = activated(isolation, &format!("--listen {asked}"), "$$", &listener);
        assert_eq!(server.wait_until_ready(), address);
        assert_accepted(first);
        server.signal(Signal::HUP);
        server.wait_for("rolling restart done");
        assert_accepted(connect(address));
        server.signal(Signal::TERM);
        assert_graceful(server);
        assert_eq!(listener.local_addr().unwrap(), address);
        // Nobody has shut it: the next start gets what waits.
        let waiting = connect(address);
        let mut server = activated(isolation, &format!("--listen {asked}"), "$$", &listener);
        server.wait_until_ready();
        assert_accepted(waiting);
        server.signal(Signal::TERM);
        assert_graceful(server);
    }
}

/// As clients that have the server started, by a connection and by a datagram.
fn unix_and_udp_sockets_are_taken_by_address_and_by_name(isolation: &str) {
    let folder = aioxide_tests::Folder::new();
    let path = folder.file("control");
    let (control, dns) = (
        UnixListener::bind(&path).unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let address = dns.local_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for (unix, udp) in [
        ("named:control".to_owned(), "named:dns".to_owned()),
        (path.display().to_string(), address.to_string()),
    ] {
        let ask = || {
            client.send_to(b"?", address).unwrap();
            UnixStream::connect(&path).expect("somebody listens")
        };
        let first = ask();
        let args = format!("--isolation {isolation} --unix {unix} --udp {udp}");
        let command = &mut launched(env!("CARGO_BIN_EXE_sockets"), &args, "$$", "control:dns");
        let mut server = Running::start_with_both(command, cloned(&control), cloned(&dns));
        server.wait_for("ready, listening on");
        for mut connection in [first, ask()] {
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            connection.read_exact(&mut [0]).expect("a worker's index");
            client.recv(&mut [0]).expect("a worker's index");
        }
        server.signal(Signal::TERM);
        let ended = server.wait();
        assert_eq!((ended.code, ended.errors()), (Some(0), Vec::new()));
        assert_eq!(ended.lines("no worker has asked").count(), 0);
        assert!(path.exists(), "the file is systemd's");
    }
}

/// As of two socket units with `ReusePort=yes`.
fn of_two_sockets_of_one_name_each_worker_has_its_own(isolation: &str) {
    let one = reusable("127.0.0.1:0".parse().unwrap());
    let address = one.local_addr().unwrap();
    let other = reusable(address);
    let args = format!("--isolation {isolation} --workers 2 --listen named:http");
    let command = &mut launched(env!("CARGO_BIN_EXE_plain"), &args, "$$", "http:http");
    let mut server = Running::start_with_both(command, cloned(&one), cloned(&other));
    assert_eq!(server.wait_until_ready(), address);
    for _ in 0..50 {
        assert_accepted(connect(address));
    }
    let inodes = [&one, &other].map(|socket| rustix::fs::fstat(socket).unwrap().st_ino);
    let held = |pid: rustix::process::Pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let links: Vec<_> = links.collect();
        inodes.map(|inode| links.contains(&format!("socket:[{inode}]").into()))
    };
    let mut of_workers: Vec<_> = server.children().into_iter().map(held).collect();
    of_workers.sort();
    match isolation {
        "process" => assert_eq!(of_workers, [[false, true], [true, false]]),
        _ => assert_eq!(held(server.pid()), [true, true]),
    }
    server.signal(Signal::TERM);
    assert_graceful(server);
}

/// One of several that may listen on an address.
fn reusable(address: SocketAddr) -> TcpListener {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &address).unwrap();
    listen(&socket, 64).unwrap();
    socket.into()
}

fn a_socket_that_nobody_wants_is_closed_and_named(isolation: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = activated(isolation, "", "$$", &listener);
    let told = format!("no worker has asked for the socket `http` on {address}");
    server.wait_for(&told);
    drop(listener);
    // A program that another test starts meanwhile has a copy until it is executed.
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "{address} still is open");
    }
    assert_closed(address);
    server.signal(Signal::TERM);
    let ended = server.wait();
    assert_eq!((ended.code, ended.errors()), (Some(0), Vec::new()));
    assert_eq!(ended.lines(&told).count(), 1, "{:#?}", ended.log);
}

/// All of them, so that the second has none to close.
#[test]
fn the_sockets_are_those_of_the_first_server_that_is_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let command = &mut launched(env!("CARGO_BIN_EXE_two_servers"), "", "$$", "http");
    let ended = Running::start_with(command, cloned(&listener)).wait();
    assert_eq!((ended.code, ended.errors()), (Some(0), Vec::new()));
    assert_eq!(ended.lines("second worker=").count(), 2, "{:#?}", ended.log);
    let told = "no worker has asked for the socket `http`";
    assert_eq!(ended.lines(told).count(), 1, "{:#?}", ended.log);
}

fn a_name_that_is_not_there_is_told_those_that_are(isolation: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fails = |whose, told: &str| {
        let ended = activated(isolation, "--listen named:https", whose, &listener).wait();
        assert_eq!(ended.code, Some(1));
        assert!(ended.lines(told).count() > 0, "{:#?}", ended.log);
    };
    fails("$$", "the TCP sockets that systemd has passed are `http`");
    fails("1", "systemd has passed no TCP sockets");
    fails("", "systemd has passed no TCP sockets");
}

fn monotonic_micros() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

aioxide_tests::under_both_isolations!(
    the_life_of_a_server_is_told,
    an_abstract_name_and_the_watchdog_are_served,
    a_watchdog_for_another_process_is_not_fed,
    what_finds_no_room_is_said_again,
    a_manager_that_is_gone_keeps_nobody,
    a_failure_is_part_of_the_status,
    workers_know_nothing_of_systemd,
    a_socket_of_systemd_is_taken_by_address_and_by_name,
    unix_and_udp_sockets_are_taken_by_address_and_by_name,
    of_two_sockets_of_one_name_each_worker_has_its_own,
    a_socket_that_nobody_wants_is_closed_and_named,
    a_name_that_is_not_there_is_told_those_that_are,
);
