//! Servers as services of a real systemd: root, and Debian's package `systemd`, are needed.
//!
//! ```sh
//! cargo test -p aioxide-tests --features systemd --test systemd
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aioxide_tests::connect;
use aioxide_tests::systemd::Systemd;

/// Free when it was looked for.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

fn service(systemd: &Systemd, name: &str, args: &str, more: &str) {
    let (plain, log) = (
        env!("CARGO_BIN_EXE_plain"),
        systemd.file(&format!("{name}.log")),
    );
    let text = format!(
        "[Service]\nType=notify\nEnvironment=RUST_LOG=info\nExecStart={plain} {args}\n\
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

/// A service whose program is a link, so that it can be changed.
fn linked_service(systemd: &Systemd, name: &str, args: &str, more: &str) {
    let (link, log) = (
        systemd.file(&format!("{name}-server")),
        systemd.file(&format!("{name}.log")),
    );
    install(systemd, name, env!("CARGO_BIN_EXE_traffic"));
    let text = format!(
        "[Service]\nType=notify\nEnvironment=RUST_LOG=info AIOXIDE_TEST_SUCCESSOR=fails\nExecStart={} {args}\n\
         StandardError=append:{}\n{more}",
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

#[test]
fn a_service_whose_supervisor_is_replaced_goes_on() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    for isolation in ["thread", "process"] {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let args = format!("--isolation {isolation} --listen {address}");
        linked_service(&systemd, isolation, &args, "WatchdogSec=2\n");
        systemd.must(&format!("start {isolation}"));
        let stop = AtomicBool::new(false);
        let (served, lost) = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let (mut served, mut lost) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    match is_echoed(address) {
                        true => served += 1,
                        false => lost += 1,
                    }
                }
                (served, lost)
            });
            for _ in 0..3 {
                upgraded(&systemd, isolation);
                let ready = format!("2 workers are ready, listening on {address}");
                systemd.wait_for(isolation, "StatusText", &ready);
            }
            install(&systemd, isolation, env!("CARGO_BIN_EXE_no_successor"));
            let main = systemd.property(isolation, "MainPID");
            assert!(systemd.run(&format!("kill -USR2 {main}")).status.success());
            let failed = format!(
                "2 workers are ready, listening on {address}; upgrade failed: it has ended: exit status: 7"
            );
            systemd.wait_for(isolation, "StatusText", &failed);
            assert_eq!(systemd.property(isolation, "MainPID"), main);
            // For as long as the watchdog would take to find that nobody feeds it.
            thread::sleep(std::time::Duration::from_secs(3));
            stop.store(true, Ordering::Relaxed);
            load.join().expect("the load ends")
        });
        assert!(served > 0);
        assert_eq!(lost, 0, "of {served}");
        assert_eq!(systemd.property(isolation, "ActiveState"), "active");
        assert_eq!(systemd.property(isolation, "NRestarts"), "0");
        systemd.must(&format!("stop {isolation}"));
        assert_eq!(systemd.property(isolation, "Result"), "success");
    }
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
