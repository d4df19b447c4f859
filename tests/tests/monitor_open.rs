//! `aioxide open`, over plain HTTP: who gets in, who doesn't, and what is passed on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use aioxide_tests::door::Watched;
use aioxide_tests::open::Opened;
use aioxide_tests::{Folder, PATIENCE, Running, Signal};

const AIOXIDE: &str = env!("CARGO_BIN_EXE_aioxide-command");

fn start() -> (Watched, Opened) {
    let watched = Watched::start(env!("CARGO_BIN_EXE_watched"), "process", "");
    let opened = Opened::start(AIOXIDE, &watched.door());
    (watched, opened)
}

#[test]
fn the_file_leads_in_once() {
    let (watched, mut opened) = start();
    let found = std::fs::metadata(&opened.ticket).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let ticket = std::fs::read_to_string(&opened.ticket).unwrap();
    assert!(ticket.contains(&opened.url), "{ticket}");

    let cookie = opened.enter();
    // It is of no use any more.
    assert!(!opened.ticket.exists());
    let host = opened.address.to_string();
    let again = opened.send("GET", opened.entrance(), &[("host", &host)]);
    assert_eq!(again.status, 403, "{again:?}");
    assert!(!again.head.contains("set-cookie"), "{again:?}");

    let page = opened.send("GET", "/", &[("host", &host), ("cookie", &cookie)]);
    assert_eq!(page.status, 200);
    assert!(page.head.contains("text/html"), "{}", page.head);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'; style-src 'nonce-")
    );
    assert!(page.body.contains("<title>aioxide</title>"));
    let without = opened.send("GET", "/", &[("host", &host)]);
    assert_eq!(without.status, 401);

    assert_eq!(opened.end(Signal::INT), Some(0));
    drop(watched);
}

/// Two pages never let the same style and script in.
#[test]
fn a_nonce_is_used_once() {
    let (_watched, opened) = start();
    let cookie = opened.enter();
    let host = opened.address.to_string();
    let nonces = [(); 2].map(|()| {
        let page = opened.send("GET", "/", &[("host", &host), ("cookie", &cookie)]);
        let (_, rest) = page.head.split_once("script-src 'nonce-").unwrap();
        let nonce = rest.split_once('\'').unwrap().0.to_owned();
        let used = page.body.matches(&format!("nonce=\"{nonce}\"")).count();
        assert_eq!(used, 2, "the style and the script");
        nonce
    });
    assert_ne!(nonces[0], nonces[1]);
}

#[test]
fn commands_are_passed_on() {
    let (watched, opened) = start();
    let cookie = opened.enter();
    let (host, origin) = (opened.address.to_string(), opened.origin());
    let known = [("host", &*host), ("cookie", &*cookie)];
    let post = [known[0], known[1], ("origin", &*origin)];

    let workers = opened.send("GET", "/workers", &known);
    assert_eq!(workers.status, 200);
    assert_eq!(workers.json().as_array().unwrap().len(), 2);
    assert!(workers.head.contains("nosniff"), "{}", workers.head);
    let text = opened.send(
        "GET",
        "/workers",
        &[known[0], known[1], ("accept", "text/plain")],
    );
    assert!(text.body.starts_with("WORKER"), "{text:?}");

    let scaled = opened.send("POST", "/scale/3", &post);
    assert_eq!(scaled.json()["done"], "the number of workers is 3");
    assert_eq!(opened.send("GET", "/reload", &known).status, 405);
    assert_eq!(opened.send("GET", "/frobnicate", &known).status, 404);
    assert_eq!(opened.send("POST", "/scale/0", &post).status, 400);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let gone = opened.send("GET", "/workers", &known);
    assert_eq!(gone.status, 503, "{gone:?}");
    assert_eq!(opened.send("GET", "/door", &known).json()["open"], false);
}

/// What has come of events once `text` is among it.
#[track_caller]
fn follow(opened: &Opened, cookie: &str, text: &str) -> (TcpStream, String) {
    let mut stream = aioxide_tests::connect(opened.address);
    let host = opened.address;
    write!(
        stream,
        "GET /events?follow HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n"
    )
    .unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, text);
    (stream, read)
}

#[track_caller]
fn read_until(stream: &mut TcpStream, read: &mut String, text: &str) {
    let mut some = [0; 4096];
    while !read.contains(text) {
        let more = stream.read(&mut some).unwrap();
        assert_ne!(more, 0, "no `{text}`: {read}");
        *read += std::str::from_utf8(&some[..more]).unwrap();
    }
}

#[test]
fn events_come_as_they_happen() {
    let (watched, opened) = start();
    let cookie = opened.enter();
    let (mut stream, mut read) = follow(&opened, &cookie, "all workers are ready");
    watched.ask("restart 0");
    read_until(&mut stream, &mut read, "worker 0 is being restarted");
    drop(stream);
    // Who goes away goes away from the server, too: no more than 16 may follow.
    let deadline = Instant::now() + PATIENCE;
    let mut followed = 0;
    while followed < 20 {
        let (_, read) = follow(&opened, &cookie, "\r\n");
        followed += u32::from(read.starts_with("HTTP/1.1 200 "));
        assert!(Instant::now() < deadline, "{read}");
    }
}

/// Nothing of the server is told, and nothing happens to it.
#[test]
fn nobody_else_gets_in() {
    let (watched, opened) = start();
    let (host, origin) = (opened.address.to_string(), opened.origin());
    let port = opened.address.port();
    let refused = |status: u16, method: &str, target: &str, headers: &[(&str, &str)]| {
        let response = opened.send(method, target, headers);
        assert_eq!(response.status, status, "{method} {target} {headers:?}");
        assert!(!response.head.contains("set-cookie"), "{response:?}");
        assert!(!response.body.contains("worker 0"), "{response:?}");
        assert!(!response.head.contains("access-control"), "{response:?}");
    };
    // A wrong token costs nobody the right one.
    refused(403, "GET", "/?token=0123456789abcdef", &[("host", &host)]);
    // The right one for another host, as a name leads here that somebody else has.
    let named = [
        format!("localhost:{port}"),
        "127.0.0.1".to_owned(),
        format!("evil.test:{port}"),
    ];
    for name in &named {
        refused(421, "GET", opened.entrance(), &[("host", name)]);
    }
    let cookie = opened.enter();
    let cookie = ("cookie", &*cookie);
    for target in ["/", "/workers", "/server", "/door", "/events?follow"] {
        refused(401, "GET", target, &[("host", &host)]);
        let wrong = format!("aioxide-{port}=0123456789abcdef");
        refused(401, "GET", target, &[("host", &host), ("cookie", &wrong)]);
        for name in &named {
            refused(421, "GET", target, &[("host", name), cookie]);
        }
        let other = format!("http://127.0.0.1:{}", port ^ 1);
        refused(
            403,
            "GET",
            target,
            &[("host", &host), cookie, ("origin", &other)],
        );
    }
    refused(
        421,
        "GET",
        &format!("http://evil.test:{port}/workers"),
        &[("host", &host), cookie],
    );
    refused(
        421,
        "GET",
        "/workers",
        &[("host", &host), ("host", "evil.test"), cookie],
    );

    for target in ["/stop", "/reload", "/scale/1", "/restart/0"] {
        refused(403, "POST", target, &[("host", &host), cookie]);
        for origin in [
            "null",
            "http://evil.test",
            &format!("https://{host}"),
            &format!("http://localhost:{port}"),
        ] {
            refused(
                403,
                "POST",
                target,
                &[("host", &host), cookie, ("origin", origin)],
            );
        }
        refused(401, "POST", target, &[("host", &host), ("origin", &origin)]);
        refused(
            421,
            "POST",
            target,
            &[("host", &named[2]), cookie, ("origin", &origin)],
        );
        refused(
            403,
            "OPTIONS",
            target,
            &[("host", &host), cookie, ("origin", "http://evil.test")],
        );
    }
    let rows = watched.ask("workers");
    let generations: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["generation"])
        .collect();
    assert_eq!(generations, [0, 0], "{rows:#}");
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(
        ended.lines("is asked for by").count(),
        0,
        "{:#?}",
        ended.log
    );
}

/// They are as many as there may be, and have to say what they want.
#[test]
fn silent_clients_make_room() {
    let (_watched, opened) = start();
    let cookie = opened.enter();
    let host = opened.address.to_string();
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| aioxide_tests::connect(opened.address))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = aioxide_tests::connect(opened.address);
        let asked = write!(
            stream,
            "GET /workers HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n"
        );
        let mut response = String::new();
        let read = asked.and_then(|()| stream.read_to_string(&mut response));
        if read.is_ok() && response.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(Instant::now() < deadline, "{response}");
        // It closes one when its time is over.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(silent);
}

#[test]
fn it_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (_watched, mut opened) = start();
        assert!(opened.ticket.exists());
        assert_eq!(opened.end(signal), Some(0));
        assert_eq!(std::fs::read_dir(opened.folder()).unwrap().count(), 0);
    }
}

/// Its pid is another one then, and its door elsewhere.
#[test]
fn a_server_that_is_started_again_is_found_again() {
    let folder = Folder::new();
    // Nobody else's has this name.
    let name = format!("again-{}", std::process::id());
    let start = |door: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watched"));
        command
            .args(["--isolation", "thread", "--name", &name])
            .env("AIOXIDE_MONITOR", folder.file(door));
        let mut server = Running::start(&mut command);
        server.wait_for("ready, listening on");
        server
    };
    let server = start("aioxide-one.sock");
    let pid = server.pid().as_raw_nonzero().to_string();
    let own = Folder::new();
    let mut command = Command::new(AIOXIDE);
    command
        .args(["--server", &pid, "open", "--no-browser"])
        .env("XDG_RUNTIME_DIR", own.path());
    let opened = Opened::of(&mut command, own);
    let cookie = opened.enter();
    let host = opened.address.to_string();
    let ask = |path: &str| opened.send("GET", path, &[("host", &host), ("cookie", &cookie)]);
    assert_eq!(ask("/server").json()["pid"].to_string(), pid);
    server.stop(Signal::TERM);
    assert_eq!(ask("/door").json()["open"], false);
    let server = start("aioxide-other.sock");
    assert_eq!(ask("/door").json()["open"], true);
    let pid = server.pid().as_raw_nonzero().get();
    assert_eq!(ask("/server").json()["pid"], pid);
    server.stop(Signal::TERM);
}

#[test]
fn what_can_not_be_opened_is_told() {
    let run = |args: &[&str]| {
        let output = Command::new(AIOXIDE).args(args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (error, output.status.code())
    };
    let (error, code) = run(&["--socket", "/nonexistent/door", "open", "--no-browser"]);
    assert!(error.contains("/nonexistent/door"), "{error}");
    assert_eq!(code, Some(2));
    let watched = Watched::start(env!("CARGO_BIN_EXE_watched"), "thread", "");
    let door = watched.door();
    let door = door.to_str().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let port = taken.port().to_string();
    let (error, code) = run(&["--socket", door, "open", "--no-browser", "--port", &port]);
    assert!(error.contains(&taken.to_string()), "{error}");
    assert_eq!(code, Some(1));
    // Not on a pipe.
    let (error, code) = run(&["--socket", door, "top"]);
    assert!(error.contains("needs a terminal"), "{error}");
    assert_eq!(code, Some(1));
}
