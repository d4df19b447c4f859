//! What systemd keeps of a server for the next run: its listening sockets. A socket stands in the place of systemd.

use std::fmt::Display;
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aioxide_tests::notify::FakeSystemd;
use aioxide_tests::{PATIENCE, Running, Signal, assert_graceful, connect};

const PLAIN: &str = env!("CARGO_BIN_EXE_plain");

fn start(program: &str, isolation: &str, args: &str, systemd: &FakeSystemd) -> Running {
    let mut command = Command::new(program);
    command
        .args(["--isolation", isolation])
        .args(args.split_whitespace())
        .env("NOTIFY_SOCKET", systemd.name());
    Running::start(&mut command)
}

/// With what systemd has kept under these names, one or two.
fn start_again(
    program: &str,
    isolation: &str,
    args: &str,
    systemd: &FakeSystemd,
    names: &[String],
) -> Running {
    let script = format!(
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null; \
         export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; exec \"$0\" \"$@\"",
        names.len(),
        names.join(":")
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, program, "--isolation", isolation])
        .args(args.split_whitespace())
        .env("NOTIFY_SOCKET", systemd.name());
    let kept = |nth: usize| match names.get(nth) {
        Some(name) => Stdio::from(cloned(&systemd.store()[name])),
        None => Stdio::null(),
    };
    Running::start_with_both(&mut command, kept(0), kept(1))
}

fn cloned(socket: impl AsFd) -> OwnedFd {
    let socket = socket.as_fd().try_clone_to_owned();
    socket.expect("it can be cloned")
}

fn name(slot: usize, kind: &str, address: impl Display) -> String {
    let address = address.to_string();
    let hex: String = address.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("aioxide-{slot}-{kind}-{hex}")
}

fn names(systemd: &FakeSystemd) -> Vec<String> {
    systemd.store().keys().cloned().collect()
}

/// The connection has been accepted: `plain` closes it.
#[track_caller]
fn assert_accepted(mut connection: TcpStream) {
    let read = connection.read(&mut [0; 1]);
    assert_eq!(read.expect("it isn't reset"), 0);
}

#[track_caller]
fn says(datagrams: &[Vec<String>], line: &str) -> bool {
    datagrams.iter().flatten().any(|said| said == line)
}

/// A server of two workers that was killed: where it listened.
fn killed(isolation: &str, systemd: &mut FakeSystemd) -> SocketAddr {
    let mut server = start(PLAIN, isolation, "--workers 2", systemd);
    let address = server.wait_until_ready();
    let first = systemd.wait_for("FDSTORE=1");
    let expected = ["FDSTORE=1", "FDPOLL=0"];
    assert_eq!(first[..2], expected, "and the name");
    systemd.wait_for("READY=1");
    let each = [0, 1].map(|slot| name(slot, "tcp", address));
    assert_eq!(names(systemd), each);
    assert_eq!(server.stop(Signal::KILL).signal, Some(9));
    address
}

fn no_backlog_is_lost_when_the_supervisor_is_killed(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let address = killed(isolation, &mut systemd);
    let waiting: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    let args = format!("--workers 2 --listen {address}");
    let kept = names(&systemd);
    let mut server = start_again(PLAIN, isolation, &args, &systemd, &kept);
    assert_eq!(server.wait_until_ready(), address);
    waiting.into_iter().for_each(assert_accepted);
    server.signal(Signal::HUP);
    server.wait_for("rolling restart done");
    assert_accepted(connect(address));
    assert_graceful(&server.stop(Signal::TERM));
    let said = systemd.rest(Duration::ZERO);
    assert!(!says(&said, "FDSTORE=1"), "they are in it: {said:?}");
    assert!(!says(&said, "FDSTOREREMOVE=1"), "{said:?}");
    // Neither does a stop shut them.
    let waiting = connect(address);
    let mut server = start_again(PLAIN, isolation, &args, &systemd, &kept);
    server.wait_until_ready();
    assert_accepted(waiting);
    assert_graceful(&server.stop(Signal::TERM));
}

fn what_nobody_asks_for_is_let_go_of_silently(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let address = killed(isolation, &mut systemd);
    let waiting: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    let args = format!("--workers 1 --listen {address}");
    let kept = names(&systemd);
    let mut server = start_again(PLAIN, isolation, &args, &systemd, &kept);
    server.wait_for("1 worker is ready");
    let gone = systemd.wait_for("FDSTOREREMOVE=1");
    assert_eq!(
        gone,
        ["FDSTOREREMOVE=1".to_owned(), format!("FDNAME={}", kept[1])]
    );
    assert_eq!(names(&systemd), kept[..1]);
    // The one worker accepts from the other's socket until it is closed.
    let accepted = waiting.into_iter().filter_map(|mut connection| {
        let read = connection.read(&mut [0; 1]);
        read.is_ok().then_some(())
    });
    assert!(accepted.count() > 0);
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines(" WARN ").count(), 0, "{:#?}", ended.log);
}

fn unix_and_udp_sockets_are_kept_too(isolation: &str) {
    let sockets = env!("CARGO_BIN_EXE_sockets");
    let folder = aioxide_tests::Folder::new();
    let path = folder.file("it");
    let mut systemd = FakeSystemd::at_path();
    let args = format!("--workers 1 --unix {}", path.display());
    let mut server = start(sockets, isolation, &args, &systemd);
    let listens = server.wait_for("listens worker=0");
    let at = |field: &str| {
        let rest = listens.split(&format!("{field}=")).nth(1);
        let address = rest.and_then(|rest| rest.split(' ').next());
        address.expect("an address").to_owned()
    };
    systemd.wait_for("READY=1");
    let (unix, udp) = (name(0, "unix", path.display()), name(0, "udp", at("udp")));
    let mut expected = vec![
        name(0, "tcp", at("first")),
        name(0, "tcp", at("second")),
        udp.clone(),
        unix.clone(),
    ];
    expected.sort();
    assert_eq!(names(&systemd), expected);
    server.stop(Signal::KILL);

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"?", at("udp")).unwrap();
    let mut waiting = UnixStream::connect(&path).expect("systemd has it");
    let args = format!("{args} --udp {}", at("udp"));
    let server = start_again(sockets, isolation, &args, &systemd, &[unix, udp]);
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.read_exact(&mut [0]).expect("a worker's index");
    if let Err(error) = client.recv(&mut [0]) {
        panic!("{error}: {:#?}", server.stop(Signal::TERM));
    }
    systemd.wait_for("READY=1");
    assert_graceful(&server.stop(Signal::TERM));
    assert!(!path.exists(), "it is the server's own");
}

fn a_worker_that_goes_serves_until_systemd_has_let_go(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let mut server = start(PLAIN, isolation, "--workers 3", &systemd);
    let address = server.wait_until_ready();
    systemd.wait_for("READY=1");
    server.signal(Signal::TTOU);
    let gone = systemd.wait_for("FDSTOREREMOVE=1");
    assert_eq!(gone[1], format!("FDNAME={}", name(2, "tcp", address)));
    systemd.wait_for("BARRIER=1");
    server.wait_for("scaled down");

    // At most for a second.
    systemd.hold_barriers();
    let asked = Instant::now();
    server.signal(Signal::TTOU);
    systemd.wait_for("BARRIER=1");
    server.wait_for("scaled down");
    assert!(asked.elapsed() >= Duration::from_secs(1));
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines("systemd is slow in letting go").count(), 1);
}

fn a_store_that_is_too_small_is_told(isolation: &str) {
    let mut systemd = FakeSystemd::at_path();
    let mut command = Command::new(PLAIN);
    command
        .args(["--isolation", isolation, "--workers", "3"])
        .env("NOTIFY_SOCKET", systemd.name())
        .env("FDSTORE", "2");
    let mut server = Running::start(&mut command);
    server.wait_until_ready();
    server.wait_for("systemd keeps 2 of 3 listening sockets");
    systemd.wait_for("READY=1");
    assert_eq!(systemd.store().len(), 2);
    let ended = server.stop(Signal::TERM);
    assert_graceful(&ended);
    assert_eq!(ended.lines("FileDescriptorStoreMax=3").count(), 1);
}

aioxide_tests::under_both_isolations!(
    no_backlog_is_lost_when_the_supervisor_is_killed,
    what_nobody_asks_for_is_let_go_of_silently,
    unix_and_udp_sockets_are_kept_too,
    a_worker_that_goes_serves_until_systemd_has_let_go,
    a_store_that_is_too_small_is_told,
);
