//! Servers as services of a real systemd: root, and Debian's package `systemd`, are needed.
//!
//! ```sh
//! cargo test -p aioxide-tests --features systemd --test systemd
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aioxide_tests::systemd::Systemd;
use aioxide_tests::{PATIENCE, SetOnDrop, connect};

/// Free when it was looked for.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

fn service(systemd: &Systemd, name: &str, args: &str, more: &str) {
    service_of(systemd, env!("CARGO_BIN_EXE_plain"), name, args, more);
}

fn service_of(systemd: &Systemd, program: &str, name: &str, args: &str, more: &str) {
    let log = systemd.file(&format!("{name}.log"));
    let text = format!(
        "[Service]\nType=notify\nEnvironment=RUST_LOG=info\nExecStart={program} {args}\n\
         ExecReload=/bin/kill -HUP $MAINPID\nStandardError=append:{}\n{more}",
        log.display()
    );
    systemd.unit(&format!("{name}.service"), &text);
}

/// Accepted and closed, as `plain` does, and not reset.
fn is_served(address: SocketAddr) -> bool {
    let connected = TcpStream::connect(address);
    connected.is_ok_and(|mut stream| matches!(stream.read(&mut [0; 1]), Ok(0)))
}

#[test]
fn a_service_starts_reloads_and_stops_as_systemd_expects() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    for isolation in ["thread", "process"] {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let args = format!("--isolation {isolation} --listen {address}");
        service(&systemd, isolation, &args, "");
        systemd.must(&format!("start {isolation}"));
        assert!(is_served(address), "start returns when it is ready");
        let ready = format!("2 workers are ready, listening on {address}");
        assert_eq!(systemd.property(isolation, "StatusText"), ready);

        let stop = AtomicBool::new(false);
        let (served, lost) = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let (mut served, mut lost) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    match is_served(address) {
                        true => served += 1,
                        false => lost += 1,
                    }
                }
                (served, lost)
            });
            for _ in 0..5 {
                systemd.must(&format!("reload {isolation}"));
                let done = format!("{ready}; rolling restart done");
                systemd.wait_for(isolation, "StatusText", &done);
            }
            stop.store(true, Ordering::Relaxed);
            load.join().expect("the load ends")
        });
        assert!(served > 0);
        assert_eq!(lost, 0, "of {served}");
        systemd.must(&format!("stop {isolation}"));
        assert_eq!(systemd.property(isolation, "Result"), "success");
    }
}

#[test]
fn no_timeout_of_systemds_ends_a_service_that_keeps_its_own() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    for (isolation, mode) in [("thread", "mixed"), ("process", "control-group")] {
        let args = format!(
            "--isolation {isolation} --listen 127.0.0.1:0 --slow-start 2500 --slow-stop 2500"
        );
        let more = format!("KillMode={mode}\nTimeoutStartSec=1\nTimeoutStopSec=1\n");
        service(&systemd, isolation, &args, &more);
        systemd.must(&format!("start {isolation}"));
        systemd.must(&format!("stop {isolation}"));
        assert_eq!(systemd.property(isolation, "Result"), "success");
    }
}

#[test]
fn a_blocked_supervisor_is_killed_by_the_watchdog_and_comes_back() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let more = "WatchdogSec=1\nRestart=on-failure\nRestartSec=10ms\n";
    service(
        &systemd,
        "watched",
        "--isolation process --listen 127.0.0.1:0",
        more,
    );
    systemd.must("start watched");
    let pid = systemd.property("watched", "MainPID");
    assert!(systemd.run(&format!("kill -STOP {pid}")).status.success());
    systemd.wait_for("watched", "NRestarts", "1");
    systemd.wait_for("watched", "SubState", "running");
    assert_ne!(systemd.property("watched", "MainPID"), pid);
}

#[test]
fn the_first_connection_to_a_socket_unit_is_served() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    for isolation in ["thread", "process"] {
        for by_name in [true, false] {
            let (name, address) = (
                format!("{isolation}-{by_name}"),
                SocketAddr::from(([127, 0, 0, 1], free_port())),
            );
            let socket = format!("[Socket]\nListenStream={address}\nFileDescriptorName=http\n");
            systemd.unit(&format!("{name}.socket"), &socket);
            let asked = match by_name {
                true => "named:http".to_owned(),
                false => address.to_string(),
            };
            let args = format!("--isolation {isolation} --listen {asked}");
            service(&systemd, &name, &args, "");
            systemd.must(&format!("start {name}.socket"));
            for _ in 0..2 {
                let mut first = connect(address);
                assert_eq!(first.read(&mut [0; 1]).expect("it isn't reset"), 0);
                systemd.must(&format!("stop {name}.service"));
            }
        }
    }
}

/// As clients that have the server started, by a connection and by a datagram.
#[test]
fn the_first_connection_and_datagram_to_unix_and_udp_sockets_are_served() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for isolation in ["thread", "process"] {
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let (udp, unix) = (free.expect("a port is free"), systemd.file(isolation));
        let path = unix.display();
        let socket = format!(
            "[Socket]\nListenStream={path}\nListenDatagram={udp}\nFileDescriptorName=both\n"
        );
        systemd.unit(&format!("{isolation}.socket"), &socket);
        for asked in [
            "--unix named:both --udp named:both".to_owned(),
            format!("--unix {path} --udp {udp}"),
        ] {
            let args = format!("--isolation {isolation} {asked}");
            let sockets = env!("CARGO_BIN_EXE_sockets");
            service_of(&systemd, sockets, isolation, &args, "");
            systemd.must("daemon-reload");
            systemd.must(&format!("start {isolation}.socket"));
            client.send_to(b"?", udp).expect("it is sent");
            let mut first = UnixStream::connect(&unix).expect("systemd listens");
            first.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            first.read_exact(&mut [0]).expect("a worker's index");
            client.recv(&mut [0]).expect("a worker's index");
            systemd.must(&format!("stop {isolation}.service"));
        }
    }
}

/// A connection to `traffic`, served to its end.
fn echoed(address: SocketAddr) -> io::Result<()> {
    let patience = Duration::from_secs(20);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"e")?;
    stream.read_exact(&mut [0])
}

/// With systemd's store of descriptors: nobody is refused, what waits is served by the next supervisor, and what had been
/// accepted is cut where the old workers are killed, and nowhere else.
#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
fn a_killed_supervisor_costs_what_was_accepted_and_no_more() {
    const CLIENTS: usize = 4;
    const KILLS: usize = 3;
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    for (isolation, mode) in [
        ("process", "process"),
        ("process", "mixed"),
        ("process", "control-group"),
        ("thread", "mixed"),
    ] {
        let name = format!("{isolation}-{mode}");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let args = format!("--isolation {isolation} --workers 2 --listen {address}");
        let more =
            format!("KillMode={mode}\nFileDescriptorStoreMax=8\nRestart=always\nRestartSec=1ms\n");
        let traffic = env!("CARGO_BIN_EXE_traffic");
        service_of(&systemd, traffic, &name, &args, &more);
        systemd.must(&format!("start {name}"));
        systemd.wait_for(&name, "NFileDescriptorStore", "2");
        let done = AtomicBool::new(false);
        let (served, lost) = thread::scope(|scope| {
            let end = SetOnDrop(&done);
            let clients = [(); CLIENTS].map(|()| {
                scope.spawn(|| {
                    let (mut served, mut lost) = (0, Vec::new());
                    while !done.load(Ordering::Relaxed) {
                        match echoed(address) {
                            Ok(()) => served += 1,
                            Err(error) => lost.push(error.kind()),
                        }
                    }
                    (served, lost)
                })
            });
            for kill in 1..=KILLS {
                systemd.must(&format!("kill --kill-who=main --signal=KILL {name}"));
                systemd.wait_for(&name, "NRestarts", &kill.to_string());
                systemd.wait_for(&name, "SubState", "running");
            }
            drop(end);
            let clients = clients.map(|client| client.join().expect("a client ends"));
            let (served, lost): (Vec<usize>, Vec<_>) = clients.into_iter().unzip();
            (served.iter().sum::<usize>(), lost.concat())
        });
        println!("{name}: {served} served, lost {lost:?}");
        let is_cut = |kind: &ErrorKind| {
            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
        };
        assert!(lost.iter().all(is_cut), "{name}: {lost:?}");
        let most = match (isolation, mode) {
            ("process", "process" | "control-group") => 0,
            _ => CLIENTS * KILLS,
        };
        assert!(lost.len() <= most, "{name}: {lost:?}");
        assert!(served > 0);
        assert_eq!(systemd.property(&name, "NFileDescriptorStore"), "2");
        systemd.must(&format!("restart {name}"));
        assert!(echoed(address).is_ok());
        systemd.must(&format!("stop {name}"));
        assert_eq!(systemd.property(&name, "Result"), "success");
        assert_eq!(systemd.property(&name, "NFileDescriptorStore"), "0");
    }
}

/// What waits in a supervisor that hangs is served by the next one.
#[test]
fn the_backlog_of_a_killed_supervisor_is_served() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let args = format!("--isolation thread --workers 2 --listen {address}");
    let more = "KillMode=mixed\nFileDescriptorStoreMax=8\nRestart=always\nRestartSec=1ms\n";
    let traffic = env!("CARGO_BIN_EXE_traffic");
    service_of(&systemd, traffic, "hangs", &args, more);
    systemd.must("start hangs");
    systemd.wait_for("hangs", "NFileDescriptorStore", "2");
    systemd.must("kill --kill-who=main --signal=STOP hangs");
    let waiting: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"e").expect("the kernel takes it");
            stream
        })
        .collect();
    systemd.must("kill --kill-who=main --signal=KILL hangs");
    for mut stream in waiting {
        stream.read_exact(&mut [0]).expect("it is served");
    }
    systemd.must("stop hangs");
}

/// And whoever is left accepts from both.
#[test]
fn of_two_socket_units_of_one_name_each_worker_has_its_own() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let both = ["both-1.socket", "both-2.socket"];
    for unit in both {
        let socket = format!(
            "[Socket]\nListenStream={address}\nReusePort=yes\nFileDescriptorName=http\nService=both.service\n"
        );
        systemd.unit(unit, &socket);
    }
    let args = "--isolation process --workers 2 --listen named:http";
    let more = format!("Sockets={}\n", both.join(" "));
    service(&systemd, "both", args, &more);
    systemd.must(&format!("start {}", both.join(" ")));
    let all_are_served = || {
        for _ in 0..50 {
            let mut connection = connect(address);
            assert_eq!(connection.read(&mut [0; 1]).expect("it isn't reset"), 0);
        }
    };
    all_are_served();
    systemd.must("kill --kill-who=main --signal=TTOU both.service");
    let status = format!("1 worker is ready, listening on {address}");
    systemd.wait_for("both.service", "StatusText", &status);
    all_are_served();
    systemd.must("stop both.service");
    assert_eq!(systemd.property("both.service", "Result"), "success");
}

/// As it stands in the guide, but for the program.
#[test]
fn the_unit_file_of_the_guide_does_what_the_guide_says() {
    const PAGE: &str = include_str!("../../runtime/src/guide/production.md");
    const PROGRAM: &str = "/usr/local/bin/echo --listen 0.0.0.0:8888";
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let unit = PAGE
        .split("```ini\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let unit = unit.expect("the page has one");
    assert!(unit.contains(PROGRAM), "{unit}");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let plain = env!("CARGO_BIN_EXE_plain");
    let program = format!("{plain} --isolation process --listen {address}");
    systemd.unit("echo.service", &unit.replace(PROGRAM, &program));
    systemd.must("start echo");
    assert!(is_served(address));
    let ready = format!("2 workers are ready, listening on {address}");
    assert_eq!(systemd.property("echo", "StatusText"), ready);
    systemd.wait_for("echo", "NFileDescriptorStore", "2");
    systemd.must("reload echo");
    let done = format!("{ready}; rolling restart done");
    systemd.wait_for("echo", "StatusText", &done);
    assert!(is_served(address));
    systemd.must("kill --kill-who=main --signal=KILL echo");
    systemd.wait_for("echo", "NRestarts", "1");
    systemd.wait_for("echo", "SubState", "running");
    assert!(is_served(address));
    systemd.must("stop echo");
    assert_eq!(systemd.property("echo", "Result"), "success");
}

/// A service whose program is a link, so that it can be changed.
fn linked_service(systemd: &Systemd, name: &str, args: &str, more: &str) {
    let (link, log) = (
        systemd.file(&format!("{name}-server")),
        systemd.file(&format!("{name}.log")),
    );
    install(systemd, name, env!("CARGO_BIN_EXE_traffic"));
    let text = format!(
        "[Service]\nType=notify\nEnvironment=RUST_LOG=info,aioxide=debug AIOXIDE_TEST_SUCCESSOR={}\nExecStart={} {args}\n\
         StandardError=append:{}\n{more}",
        systemd.file(&format!("{name}-successor")).display(),
        link.display(),
        log.display()
    );
    systemd.unit(&format!("{name}.service"), &text);
}

fn install(systemd: &Systemd, name: &str, program: &str) {
    let link = systemd.file(&format!("{name}-server"));
    let new = link.with_extension("new");
    std::os::unix::fs::symlink(program, &new).expect("a link can be made");
    std::fs::rename(&new, &link).expect("a link can be moved");
}

/// A byte that comes back, as `traffic` gives it.
fn is_echoed(address: SocketAddr) -> bool {
    let mut reply = [0; 2];
    let echoed = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(b"e")?;
        stream.read_exact(&mut reply[..1])?;
        stream.read(&mut reply[1..])
    });
    matches!(echoed, Ok(0)) && reply[0] == b'e'
}

/// Has the supervisor replaced; gives the new main process.
fn upgraded(systemd: &Systemd, name: &str) -> String {
    let old = systemd.property(name, "MainPID");
    assert!(systemd.run(&format!("kill -USR2 {old}")).status.success());
    let deadline = std::time::Instant::now() + aioxide_tests::PATIENCE;
    loop {
        let new = systemd.property(name, "MainPID");
        if new != old {
            return new;
        }
        let log = std::fs::read_to_string(systemd.file(&format!("{name}.log")));
        assert!(
            std::time::Instant::now() < deadline,
            "no new supervisor: {log:?}"
        );
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Waits until so many new supervisors that failed have ended.
fn wait_until_gone(systemd: &Systemd, name: &str, count: usize) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let log = std::fs::read_to_string(systemd.file(&format!("{name}.log")));
        let log = log.expect("the service has a log");
        if log.matches(") is gone").count() == count {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{log}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing is lost when the supervisor is replaced, and nothing happens where what is on disk can't replace it.
#[test]
fn a_service_whose_supervisor_is_replaced_goes_on() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    thread::scope(|scope| {
        for isolation in ["thread", "process"] {
            let systemd = &systemd;
            scope.spawn(move || goes_on_when_its_supervisor_is_replaced(systemd, isolation));
        }
    });
}

fn goes_on_when_its_supervisor_is_replaced(systemd: &Systemd, isolation: &str) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let args = format!("--isolation {isolation} --listen {address}");
    linked_service(systemd, isolation, &args, "WatchdogSec=2\n");
    systemd.must(&format!("start {isolation}"));
    let done = AtomicBool::new(false);
    let (served, lost) = thread::scope(|scope| {
        let end = SetOnDrop(&done);
        let load = scope.spawn(|| {
            let (mut served, mut lost) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                match is_echoed(address) {
                    true => served += 1,
                    false => lost += 1,
                }
            }
            (served, lost)
        });
        let ready = format!("2 workers are ready, listening on {address}");
        for _ in 0..3 {
            upgraded(systemd, isolation);
            systemd.wait_for(isolation, "StatusText", &ready);
        }
        install(systemd, isolation, env!("CARGO_BIN_EXE_no_successor"));
        let main = systemd.property(isolation, "MainPID");
        let failures = [
            ("fails", "it has ended: exit status: 7"),
            ("crashes", "it has ended: signal: 6"),
            ("another-format", "aioxide 9.9.9 (handover format 999)"),
            // For longer than the watchdog takes to find that nobody feeds it.
            ("hangs", "it has not greeted within 10s"),
        ];
        for (number, (what, told)) in failures.into_iter().enumerate() {
            let successor = systemd.file(&format!("{isolation}-successor"));
            std::fs::write(successor, what).expect("a file can be written");
            assert!(systemd.run(&format!("kill -USR2 {main}")).status.success());
            systemd.wait_for_part(isolation, "StatusText", told);
            let failed = format!("{ready}; upgrade failed: ");
            let status = systemd.property(isolation, "StatusText");
            assert!(status.starts_with(&failed), "{status}");
            assert_eq!(systemd.property(isolation, "MainPID"), main);
            wait_until_gone(systemd, isolation, number + 1);
        }
        // And what is there now can.
        install(systemd, isolation, env!("CARGO_BIN_EXE_traffic"));
        let new = upgraded(systemd, isolation);
        systemd.wait_for(isolation, "StatusText", &ready);
        make_known(systemd, &new);
        drop(end);
        load.join().expect("the load ends")
    });
    assert!(served > 0);
    assert_eq!(lost, 0, "of {served}");
    assert_eq!(systemd.property(isolation, "ActiveState"), "active");
    assert_eq!(systemd.property(isolation, "NRestarts"), "0");
    systemd.must(&format!("stop {isolation}"));
    assert_eq!(systemd.property(isolation, "Result"), "success");
}

/// As the guide has it, with the `KillMode` of its unit.
#[test]
fn a_service_whose_supervisor_was_replaced_has_its_time_to_stop() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    for isolation in ["thread", "process"] {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let args = format!("--isolation {isolation} --listen {address}");
        linked_service(&systemd, isolation, &args, "KillMode=mixed\n");
        systemd.must(&format!("start {isolation}"));
        let new = upgraded(&systemd, isolation);
        let ready = format!("2 workers are ready, listening on {address}");
        systemd.wait_for(isolation, "StatusText", &ready);
        make_known(&systemd, &new);
        let mut held = connect(address);
        held.write_all(b"i").expect("it is sent");
        held.read_exact(&mut [0]).expect("it is answered");
        systemd.must(&format!("stop --no-block {isolation}"));
        systemd.wait_for(isolation, "ActiveState", "deactivating");
        // If it were killed, this is when.
        thread::sleep(Duration::from_millis(500));
        held.write_all(b"e").expect("it is still served");
        held.read_exact(&mut [0]).expect("it is still served");
        drop(held);
        systemd.wait_for(isolation, "ActiveState", "inactive");
        assert_eq!(systemd.property(isolation, "Result"), "success");
    }
}

/// Has systemd see that the new supervisor is its own child, which it is once the old one has gone.
fn make_known(systemd: &Systemd, supervisor: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let parent = || {
        let stat = systemd.run(&format!("cat /proc/{supervisor}/stat")).stdout;
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        parent.map(str::to_owned)
    };
    while parent().as_deref() != Some("1") {
        assert!(std::time::Instant::now() < deadline, "{:?}", parent());
        thread::sleep(Duration::from_millis(20));
    }
    systemd.must("daemon-reload");
}

#[test]
fn a_service_is_started_again_when_the_new_supervisor_dies_while_the_old_one_drains() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    for isolation in ["thread", "process"] {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let args = format!("--isolation {isolation} --listen {address}");
        let more = "Restart=on-failure\nRestartSec=10ms\n";
        linked_service(&systemd, isolation, &args, more);
        systemd.must(&format!("start {isolation}"));
        // Until its deadline the old one waits for it.
        let mut held = connect(address);
        held.write_all(b"i").expect("it is sent");
        held.read_exact(&mut [0]).expect("it is answered");
        let new = upgraded(&systemd, isolation);
        let ready = format!("2 workers are ready, listening on {address}");
        systemd.wait_for(isolation, "StatusText", &ready);
        assert!(systemd.run(&format!("kill -KILL {new}")).status.success());
        systemd.wait_for(isolation, "NRestarts", "1");
        systemd.wait_for(isolation, "SubState", "running");
        assert!(is_echoed(address));
        systemd.must(&format!("stop {isolation}"));
    }
}
