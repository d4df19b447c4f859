//! Looking into a running server, from raw sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use aioxide_tests::door::{Watched, connect, http_at, json, line_at};
use aioxide_tests::{Folder, Running, Signal, assert_graceful, under_both_isolations};
use serde_json::Value;

const WATCHED: &str = env!("CARGO_BIN_EXE_watched");

fn start(isolation: &str, args: &str) -> Watched {
    Watched::start(WATCHED, isolation, args)
}

/// What has come until `end`, which is the last of it.
#[track_caller]
fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(end.as_bytes()) {
        let more = stream.read(&mut byte).expect("the door answers in time");
        assert_eq!(more, 1, "no `{end}`: {}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    String::from_utf8(read).expect("text")
}

fn generations(workers: &Value) -> Vec<u64> {
    let rows = workers.as_array().expect("rows");
    rows.iter()
        .map(|row| row["generation"].as_u64().unwrap())
        .collect()
}

fn states(workers: &Value) -> Vec<&str> {
    let rows = workers.as_array().expect("rows");
    rows.iter()
        .map(|row| row["state"].as_str().unwrap())
        .collect()
}

/// As in the talk: `nc -U` greets, and `help` helps.
fn a_person_is_greeted_and_prompted(isolation: &str) {
    let watched = start(isolation, "");
    let mut stream = watched.connect();
    let greeting = read_until(&mut stream, "> ");
    let pid = watched.server.pid().as_raw_nonzero();
    assert!(
        greeting.starts_with(&format!("watched, pid {pid}, 2 workers;")),
        "{greeting}"
    );
    writeln!(stream, "help").unwrap();
    let help = read_until(&mut stream, "> ");
    for command in [
        "help",
        "server",
        "workers (ps)",
        "events [--follow]",
        "scale N",
    ] {
        assert!(help.contains(command), "{help}");
    }
    writeln!(stream, "wrokers").unwrap();
    let answer = read_until(&mut stream, "> ");
    assert!(answer.contains("did you mean `workers`?"), "{answer}");
    writeln!(stream, "ps").unwrap();
    let workers = read_until(&mut stream, "> ");
    let ready = workers.lines().filter(|line| line.contains(" ready "));
    assert_eq!(ready.count(), 2, "{workers}");
    writeln!(stream, "exit").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_graceful(&watched.server.stop(Signal::TERM));
}

fn lines_and_http_are_one_vocabulary(isolation: &str) {
    let watched = start(isolation, "");
    let text = watched.line("workers");
    assert!(text.starts_with("WORKER"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains('>'), "{text}");

    let rows = watched.ask("workers");
    assert_eq!(states(&rows), ["ready", "ready"]);
    assert_eq!(rows[1]["name"], "worker 1");
    assert_eq!(rows[1]["index"], 1);
    let response = watched.http("GET", "/workers", "");
    assert_eq!(response.status, 200);
    assert!(
        response.head.contains("application/json"),
        "{}",
        response.head
    );
    assert_eq!(response.json()[0]["pid"], rows[0]["pid"]);
    let response = watched.http("GET", "/workers", "text/plain");
    assert!(response.body.starts_with("WORKER"), "{response:?}");

    let server = watched.http("GET", "/server", "").json();
    assert_eq!(server["pid"], watched.server.pid().as_raw_nonzero().get());
    assert_eq!(server["state"], "serving");
    assert_eq!(server["isolation"], isolation);
    assert_eq!(server["workers"]["ready"], 2);
    assert_eq!(server["addresses"][0]["sockets"][0]["state"], "held");
    assert_eq!(server["options"]["shutdown_timeout"], 20.0);

    let response = watched.http("GET", "/wrokers", "");
    assert_eq!(response.status, 404);
    let error = response.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("did you mean `workers`?"), "{error}");
    assert_eq!(watched.http("GET", "/reload", "").status, 405);
    assert_eq!(watched.http("POST", "/scale/none", "").status, 400);
    assert_eq!(watched.http("POST", "/scale/0", "").status, 400);
    assert_eq!(watched.http("POST", "/restart/9", "").status, 404);
    assert_graceful(&watched.server.stop(Signal::TERM));
}

fn the_door_is_the_users_own(isolation: &str) {
    let watched = start(isolation, "");
    let door = watched.door();
    let found = std::fs::metadata(&door).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let ended = watched.server.stop(Signal::TERM);
    assert!(!door.exists());
    assert_graceful(&ended);
}

/// In the folder that is meant for it, and none where the environment says so.
#[test]
fn the_door_is_where_the_environment_says() {
    let folder = Folder::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitored"));
    command
        .env("RUNTIME_DIRECTORY", folder.path())
        .env("AIOXIDE_HEALTH", "127.0.0.1:0")
        .env_remove("AIOXIDE_MONITOR");
    let mut server = Running::start(&mut command);
    server.wait_for("1 worker is ready");
    let path = folder.file(format!(
        "aioxide-monitored-{}.sock",
        server.pid().as_raw_nonzero()
    ));
    let options = &json(&line_at(&path, "server --json"))["options"];
    assert_eq!(
        options["stop_signals"],
        serde_json::json!(["SIGINT", "SIGTERM"])
    );
    let none = serde_json::json!({ "after": null, "connections": null, "memory": null });
    assert_eq!(options["recycle"], none);
    assert_eq!(options["health"], "127.0.0.1:0");
    assert!(line_at(&path, "server").contains("monitored"));
    // A killed one leaves its door, and the next one removes it.
    drop(server);
    assert!(path.exists());
    let mut server = Running::start(&mut command);
    server.wait_for("1 worker is ready");
    assert!(!path.exists());
    server.stop(Signal::TERM);

    let elsewhere = folder.file("elsewhere");
    let mut server = Running::start(command.env("AIOXIDE_MONITOR", &elsewhere));
    server.wait_for("1 worker is ready");
    assert!(line_at(&elsewhere, "workers").contains("ready"));
    server.stop(Signal::TERM);
    let mut server = Running::start(command.env("AIOXIDE_MONITOR", ""));
    server.wait_for("1 worker is ready");
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended.lines("the door").count(), 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The server runs without it.
#[test]
fn a_door_that_can_not_be_opened_is_a_warning() {
    let folder = Folder::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitored"));
    command.env("AIOXIDE_MONITOR", folder.file("missing/door"));
    command.env("AIOXIDE_HEALTH", "192.0.2.1:1");
    let mut server = Running::start(&mut command);
    server.wait_for("WARN");
    server.wait_until_logged("the door can't be opened");
    server.wait_until_logged("can't listen on `192.0.2.1:1`");
    server.wait_for("1 worker is ready");
    assert_graceful(&server.stop(Signal::TERM));
}

fn acts_answer_when_they_are_done(isolation: &str) {
    let watched = start(isolation, "");
    let before = watched.ask("workers");
    assert_eq!(watched.ask("reload")["done"], "rolling restart done");
    let rows = watched.ask("workers");
    assert_eq!(generations(&rows), [1, 1]);
    assert_eq!(
        rows.as_array().unwrap().len(),
        before.as_array().unwrap().len()
    );

    assert_eq!(
        watched.http("POST", "/restart/1", "").json()["done"],
        "restarted"
    );
    assert_eq!(generations(&watched.ask("workers")), [1, 2]);
    assert_eq!(watched.ask("scale 3")["done"], "the number of workers is 3");
    assert_eq!(states(&watched.ask("workers")), ["ready"; 3]);
    assert_eq!(watched.http("POST", "/scale?n=1", "").status, 200);
    assert_eq!(states(&watched.ask("workers")), ["ready"]);
    let progress = watched.line("reload");
    assert!(progress.contains("worker 0 is ready\n"), "{progress}");
    assert!(progress.ends_with("rolling restart done\n"), "{progress}");
    let ended = watched.server.stop(Signal::TERM);
    assert_graceful(&ended);
    // Each is logged with who asked.
    assert_eq!(ended.lines("`reload` is asked for by uid").count(), 2);
    assert_eq!(ended.lines("`scale 3` is asked for by uid").count(), 1);
}

fn an_act_that_fails_says_so(isolation: &str) {
    let folder = Folder::new();
    let file = folder.file("fails");
    let watched = start(isolation, &format!("--fails-with {}", file.display()));
    std::fs::write(&file, "").unwrap();
    let response = watched.http("POST", "/reload", "");
    assert_eq!(response.status, 500);
    let error = response.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("rolling restart given up"), "{error}");
    let error = watched.line("scale 3");
    assert!(error.contains("error: worker 2 is not added"), "{error}");
    watched.until("workers", |rows| states(rows) == ["ready"; 2]);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

fn a_second_act_is_refused_while_one_is_under_way(isolation: &str) {
    let watched = start(isolation, "--slow-start 1500");
    let mut stream = watched.connect();
    writeln!(stream, "reload").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while !line.contains("rolling restart") {
        line.clear();
        lines.read_line(&mut line).unwrap();
    }
    let response = watched.http("POST", "/scale/1", "");
    assert_eq!(response.status, 409, "{response:?}");
    assert!(
        response.body.contains("`reload` is under way"),
        "{response:?}"
    );
    // Who has asked goes away, and takes nothing with it.
    drop((lines, stream));
    let rows = watched.until("workers", |rows| generations(rows) == [1, 1]);
    assert_eq!(rows.as_array().unwrap().len(), 2);
    watched.until("scale 1", |answer| answer["error"].is_null());
    assert_graceful(&watched.server.stop(Signal::TERM));
}

fn the_end_of_the_connection_is_the_end_of_the_server(isolation: &str) {
    let watched = start(isolation, "");
    let answer = watched.line("stop");
    assert!(answer.starts_with("accepted"), "{answer}");
    let ended = watched.server.wait();
    assert_graceful(&ended);
    assert_eq!(ended.lines("stopping: ").count(), 1);

    for accept in ["", "text/plain"] {
        let watched = start(isolation, "--drain-delay 1500");
        let asked = Instant::now();
        let response = watched.http("POST", "/drain", accept);
        assert!(response.body.contains("accepted"), "{response:?}");
        // It is whole, and not cut off.
        assert!(response.body.ends_with("\r\n0\r\n\r\n"), "{response:?}");
        assert!(asked.elapsed() >= Duration::from_millis(1500));
        assert_graceful(&watched.server.wait());
    }
}

fn a_drain_keeps_the_delay_and_a_stop_ends_it(isolation: &str) {
    let mut watched = start(isolation, "--drain-delay 15000");
    let door = watched.door();
    let accepted = |path| {
        let mut stream = connect(&door);
        write!(stream, "POST {path} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut status = String::new();
        let mut response = BufReader::new(stream);
        response.read_line(&mut status).unwrap();
        assert_eq!(status, "HTTP/1.1 202 Accepted\r\n");
        response
    };
    let _first = accepted("/drain");
    let going = "going: stop requested; everything is still served, and the stop begins in 15s";
    watched.server.wait_for(going);
    let _second = accepted("/drain");
    assert_eq!(watched.ask("server")["state"], "going");
    // It goes away, and takes nothing with it.
    drop(accepted("/stop"));
    let ended = watched.server.wait();
    assert_graceful(&ended);
    assert!(ended.took < std::time::Duration::from_secs(15));
}

fn events_are_told_and_followed(isolation: &str) {
    let watched = start(isolation, "--on-failure restart");
    let events = watched.ask("events");
    let kinds: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "started").count(),
        2,
        "{events:#}"
    );
    assert!(kinds.contains(&"ready"), "{events:#}");

    let mut stream = watched.connect();
    write!(stream, "GET /events?follow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream);
    let mut until = |text: &str| loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "no `{text}`");
        if line.contains(text) {
            return json(&line);
        }
    };
    until("all workers are ready");
    assert_eq!(watched.ask("restart 0")["done"], "restarted");
    let roll = until("worker 0 is being restarted");
    assert_eq!(roll["event"], "roll");
    until("rolling restart done");
    watched.server.signal(Signal::HUP);
    until("a rolling restart is requested");
    until("rolling restart done");
    assert_graceful(&watched.server.stop(Signal::TERM));
}

fn followers_are_bounded(isolation: &str) {
    let watched = start(isolation, "");
    let mut followers: Vec<UnixStream> = (0..16).map(|_| watched.connect()).collect();
    for follower in &mut followers {
        writeln!(follower, "events --follow").unwrap();
        read_until(follower, "all workers are ready\n");
    }
    let answer = watched.line("events --follow");
    assert!(
        answer.contains("error: 16 clients follow already"),
        "{answer}"
    );
    // Those that are gone make room, though nothing happens that would be told to them.
    drop(followers);
    let mut stream = watched.connect();
    let deadline = Instant::now() + aioxide_tests::PATIENCE;
    loop {
        assert!(Instant::now() < deadline);
        writeln!(stream, "events --follow").unwrap();
        let mut first = [0; 6];
        stream.read_exact(&mut first).unwrap();
        if first != *b"error:" {
            break;
        }
        read_until(&mut stream, "\n");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_graceful(&watched.server.stop(Signal::TERM));
}

/// None of those who do harm keeps others waiting.
fn hostile_clients_delay_nobody(isolation: &str) {
    let watched = start(isolation, "");
    let door = watched.door();
    let mut hostile = Vec::new();
    for _ in 0..40 {
        let mut endless = connect(&door);
        endless.write_all(b"GET /workers HTTP/1.1\r\nx: ").unwrap();
        let mut unread = connect(&door);
        // Its replies are never read.
        for _ in 0..100 {
            if unread.write_all(b"events\n").is_err() {
                break;
            }
        }
        let idle = connect(&door);
        hostile.extend([endless, unread, idle]);
    }
    let mut took: Vec<Duration> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(watched.http("GET", "/server", "").status, 200);
            begun.elapsed()
        })
        .collect();
    took.sort();
    // The machine may be busy with something else at times.
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
    let begun = Instant::now();
    watched.server.signal(Signal::TERM);
    let ended = watched.server.wait();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_graceful(&ended);
    drop(hostile);
}

fn health_is_told_over_tcp(isolation: &str) {
    let mut watched = Watched::starting(
        WATCHED,
        isolation,
        "--health 127.0.0.1:0 --slow-start 700 --slow-stop 700",
    );
    let line = watched.server.wait_until_logged("health: answering on");
    let address = aioxide_tests::address_in(&line);
    let starting = http_at(address, "GET", "/readyz");
    assert_eq!(
        (starting.status, &*starting.body),
        (503, "the server is starting\n")
    );
    assert_eq!(http_at(address, "GET", "/livez").status, 200);
    watched.server.wait_for("ready, listening on");
    assert_eq!(http_at(address, "GET", "/readyz").status, 200);
    assert_eq!(http_at(address, "HEAD", "/readyz").status, 200);
    for path in ["/", "/workers", "/readyz/", "/events"] {
        assert_eq!(http_at(address, "GET", path).status, 404, "{path}");
    }
    assert_eq!(http_at(address, "POST", "/readyz").status, 405);
    assert_eq!(http_at(address, "POST", "/stop").status, 404);
    let metrics = http_at(address, "GET", "/metrics");
    assert!(
        metrics.head.contains("text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    assert!(
        metrics.body.contains("\naioxide_workers_ready 2\n"),
        "{}",
        metrics.body
    );
    watched.server.signal(Signal::TERM);
    watched.server.wait_for("stopping: ");
    let stopping = http_at(address, "GET", "/readyz");
    assert_eq!(
        (stopping.status, &*stopping.body),
        (503, "the server is stopping\n")
    );
    assert_graceful(&watched.server.wait());
}

/// The first row of a worker of this index.
fn row(rows: &Value, index: u64) -> &Value {
    let rows = rows.as_array().expect("rows");
    rows.iter()
        .find(|row| row["index"] == index)
        .expect("a row")
}

fn sum(rows: &Value, of: &str) -> u64 {
    rows.as_array()
        .expect("rows")
        .iter()
        .map(|row| row[of].as_u64().unwrap_or(0))
        .sum()
}

fn echo(stream: &mut TcpStream) {
    stream.write_all(b"e").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

fn workers_tell_their_figures(isolation: &str) {
    let mut watched = Watched::starting(WATCHED, isolation, "");
    let address = watched.server.wait_until_ready();
    let mut open: Vec<TcpStream> = (0..6).map(|_| aioxide_tests::connect(address)).collect();
    open.iter_mut().for_each(echo);
    let rows = watched.ask("workers");
    assert_eq!(sum(&rows, "connections_open"), 6, "{rows:#}");
    assert_eq!(sum(&rows, "connections_total"), 6, "{rows:#}");
    assert_eq!(sum(&rows, "timers"), 4, "{rows:#}");
    assert!(sum(&rows, "tasks") >= 6, "{rows:#}");
    assert_eq!(rows[0]["answers"], true);
    assert_eq!(
        rows[0]["memory"].is_u64(),
        isolation == "process",
        "{rows:#}"
    );

    let connections = watched.ask("connections");
    let mut peers: Vec<&str> = connections
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["peer"].as_str().unwrap())
        .collect();
    let mut clients: Vec<String> = open
        .iter()
        .map(|c| c.local_addr().unwrap().to_string())
        .collect();
    peers.sort_unstable();
    clients.sort_unstable();
    assert_eq!(peers, clients);
    let of_0 = watched.http("GET", "/connections/0", "").json();
    assert_eq!(
        of_0.as_array().unwrap().len() as u64,
        row(&rows, 0)["connections_open"]
    );
    open.truncate(1);
    watched.until("workers", |rows| sum(rows, "connections_open") == 1);
    watched.until("workers", |rows| rows[0]["busy_percent"].is_f64());
    watched.until("workers", |rows| rows[1]["loop_lag"].is_f64());
    drop(open);
    assert_graceful(&watched.server.stop(Signal::TERM));
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], *byte);
    }
}

/// The rows of that name.
fn named<'r>(rows: &'r Value, name: &str) -> Vec<&'r Value> {
    let rows = rows.as_array().expect("rows").iter();
    rows.filter(|row| row["name"] == name).collect()
}

/// How many there are of a name, in all workers.
fn number(rows: &Value, name: &str, of: &str) -> u64 {
    let rows = named(rows, name).into_iter();
    rows.map(|row| row[of].as_u64().unwrap()).sum()
}

fn contexts_are_told_by_function(isolation: &str) {
    let mut watched = Watched::starting(WATCHED, isolation, "");
    let address = watched.server.wait_until_ready();
    assert_eq!(watched.ask("contexts"), Value::Array(Vec::new()));
    let mut clients: Vec<TcpStream> = (0..4).map(|_| aioxide_tests::connect(address)).collect();
    clients.iter_mut().for_each(|client| say(client, b"ccd"));
    say(&mut clients[0], b"fF");

    let rows = watched.until("contexts", |rows| number(rows, "failing", "failed") == 2);
    assert_eq!(number(&rows, "session", "open"), 8, "{rows:#}");
    assert_eq!(number(&rows, "session", "entered"), 8, "{rows:#}");
    assert!(named(&rows, "session")[0]["oldest"].is_f64(), "{rows:#}");
    assert!(named(&rows, "held_up")[0]["oldest"].is_null(), "{rows:#}");
    let held_up = ["open", "entered", "teardowns_pending", "failed"];
    let held_up = held_up.map(|of| number(&rows, "held_up", of));
    assert_eq!(held_up, [0, 4, 4, 0], "{rows:#}");
    assert_eq!(number(&rows, "failing", "entered"), 2, "{rows:#}");
    let workers = watched.ask("workers");
    assert_eq!(sum(&workers, "contexts_open"), 8, "{workers:#}");
    assert_eq!(sum(&workers, "teardowns_pending"), 4, "{workers:#}");
    let metrics = watched.line("metrics");
    for (name, context, value) in [
        ("aioxide_contexts_open{", "session", 8.0),
        ("aioxide_contexts_entered_total{", "held_up", 4.0),
        ("aioxide_contexts_failed_total{", "failing", 2.0),
        ("aioxide_teardowns_pending{", "held_up", 4.0),
    ] {
        let labels = format!("context=\"{context}\"");
        assert_eq!(sample(&metrics, name, &labels), value, "{name} {metrics}");
    }
    let text = watched.http("GET", "/contexts", "text/plain").body;
    assert!(text.starts_with("WORKER"), "{text}");

    assert_eq!(watched.line("run release -w 0"), "");
    watched.line("run release -w 1");
    clients.truncate(1);
    let rows = watched.until("contexts", |rows| {
        number(rows, "session", "open") == 2 && number(rows, "held_up", "teardowns_pending") == 0
    });
    assert_eq!(number(&rows, "session", "entered"), 8, "{rows:#}");
    drop(clients);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

fn timers_are_told_and_acted_upon(isolation: &str) {
    let watched = start(isolation, "");
    let of = |timers: &Value, name: &str| -> Vec<Value> {
        let timers = timers.as_array().unwrap().iter();
        timers
            .filter(|timer| timer["name"] == name)
            .cloned()
            .collect()
    };
    watched.until("timers", |timers| {
        of(timers, "beat")
            .iter()
            .all(|beat| beat["completed"].as_u64() > Some(2))
    });
    let timers = watched.ask("timers");
    let sync = of(&timers, "sync");
    assert_eq!(sync.len(), 2, "{timers:#}");
    assert_eq!(sync[0]["started"], 0);
    assert!(sync[0]["next_due_in"].as_f64() > Some(3000.0), "{timers:#}");
    assert_eq!(
        watched.ask("timer sync trigger")["done"],
        "2 timers are triggered"
    );
    watched.until("timers", |timers| {
        of(timers, "sync").iter().all(|sync| sync["completed"] == 1)
    });
    assert_eq!(watched.http("POST", "/timer/sync/pause", "").status, 200);
    watched.until("timers", |timers| {
        of(timers, "sync")
            .iter()
            .all(|sync| sync["next_due_in"].is_null())
    });
    watched.ask("timer sync resume");
    watched.until("timers", |timers| {
        of(timers, "sync")
            .iter()
            .all(|sync| sync["next_due_in"].is_f64())
    });
    assert!(
        watched
            .line("timer sink trigger")
            .contains("error: there is no timer `sink`")
    );
    let ended = watched.server.stop(Signal::TERM);
    assert_graceful(&ended);
    let asked = |line: &str| {
        ended
            .lines(&format!("`{line}` is asked for by uid"))
            .count()
    };
    assert_eq!(asked("timer sync pause"), 1);
    assert_eq!(asked("timer sync resume"), 1);
}

fn the_programs_own_commands_are_run(isolation: &str) {
    let watched = start(isolation, "");
    let help = watched.line("help");
    assert!(
        help.contains("run up") && help.contains("says it in capitals"),
        "{help}"
    );
    assert_eq!(
        watched.line("run up hello you"),
        "worker 0: HELLO YOU from 0\nworker 1: HELLO YOU from 1\n"
    );
    assert_eq!(watched.line("run up 'a  b' --worker 1"), "A  B from 1\n");
    let ran = watched.http("POST", "/run/up/x", "").json();
    assert_eq!(ran[1]["output"], "X from 1");
    let failed = watched.http("POST", "/run/fails", "");
    assert_eq!(failed.status, 500);
    assert!(
        failed.body.contains("worker 1: its own mistake"),
        "{failed:?}"
    );
    assert!(
        watched
            .line("run panics")
            .contains("worker 0: panicked: asked to")
    );
    let printed = watched.line("run prints -w 0");
    assert!(
        printed.ends_with("(1048576 of 10000000 bytes)\n"),
        "{}",
        printed.len()
    );
    let unknown = watched.line("run ups");
    assert!(unknown.contains("did you mean `up`?"), "{unknown}");
    // One that never ends keeps nobody waiting but who has asked, who may go away.
    let mut hanging: Vec<UnixStream> = (0..8).map(|_| watched.connect()).collect();
    for stream in &mut hanging {
        writeln!(stream, "run hangs -w 1").unwrap();
    }
    let refused = loop {
        // Those may have yet to begin, and then this one doesn't end either.
        let mut stream = watched.connect();
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        writeln!(stream, "run hangs -w 1").unwrap();
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Ok(_) => break answer,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    };
    assert!(
        refused.contains("worker 1: it does not answer"),
        "{refused}"
    );
    assert_eq!(watched.line("run up still -w 0"), "STILL from 0\n");
    assert_eq!(states(&watched.ask("workers")), ["ready"; 2]);
    drop(hanging);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// A sample of the metrics, by its name and a part of its labels.
fn sample(metrics: &str, name: &str, labels: &str) -> f64 {
    let found = metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(labels));
    found
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// No counter falls, whatever the workers do.
fn counters_never_fall(isolation: &str) {
    let mut watched = Watched::starting(WATCHED, isolation, "--on-failure restart");
    let address = watched.server.wait_until_ready();
    let mut before = std::collections::BTreeMap::new();
    let mut look = |watched: &Watched| {
        let metrics = watched.line("metrics");
        for line in metrics
            .lines()
            .filter(|line| line.contains("_total") && !line.starts_with('#'))
        {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let last = before.insert(name.to_owned(), value).unwrap_or(0.0);
            assert!(value >= last, "{name} fell from {last} to {value}");
        }
        metrics
    };
    let mut clients = 0;
    for command in [
        "reload",
        "scale 3",
        "restart 0",
        "scale 1",
        "reload",
        "scale 2",
    ] {
        for _ in 0..4 {
            echo(&mut aioxide_tests::connect(address));
            clients += 1;
        }
        look(&watched);
        let answer = watched.ask(command);
        assert!(answer["error"].is_null(), "{command}: {answer}");
        look(&watched);
    }
    let metrics = look(&watched);
    assert_eq!(
        sample(&metrics, "aioxide_connections_total", ""),
        f64::from(clients),
        "{metrics}"
    );
    assert_eq!(
        sample(&metrics, "aioxide_worker_restarts_total", "worker=\"0\""),
        3.0,
        "{metrics}"
    );
    assert!(
        sample(
            &metrics,
            "aioxide_timer_ticks_total",
            "outcome=\"completed\""
        ) > 6.0,
        "{metrics}"
    );
    if isolation == "process" {
        // What was seen of one that is killed counts on.
        let rows = watched.ask("workers");
        let pid = row(&rows, 0)["pid"].as_i64().unwrap() as i32;
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        watched.until("workers", |rows| {
            row(rows, 0)["failures"] == 1 && row(rows, 0)["state"] == "ready"
        });
        let metrics = look(&watched);
        assert_eq!(
            sample(&metrics, "aioxide_connections_total", ""),
            f64::from(clients)
        );
        assert_eq!(
            sample(&metrics, "aioxide_worker_failures_total", "worker=\"0\""),
            1.0
        );
    }
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// It is shown as such, with the figures that it had, and delays nobody for longer than a second.
fn a_worker_that_does_not_answer_is_shown_as_such(isolation: &str) {
    let mut watched = Watched::starting(WATCHED, isolation, "--workers 1");
    let address = watched.server.wait_until_ready();
    let mut client = aioxide_tests::connect(address);
    echo(&mut client);
    let rows = watched.ask("workers");
    assert_eq!(rows[0]["connections_open"], 1);
    client.write_all(b"b").unwrap();
    let rows = watched.until("workers", |rows| rows[0]["answers"] == false);
    assert_eq!(rows[0]["connections_open"], 1, "{rows:#}");
    assert!(watched.line("workers").contains("ready, no answer"));
    let rows = watched.ask("connections");
    let last = &rows.as_array().unwrap()[0];
    assert_eq!(
        (&last["worker"], &last["answers"], &last["left_out"]),
        (&"worker 0".into(), &false.into(), &0.into()),
        "{rows:#}"
    );
    let refused = watched.line("timer beat pause");
    assert!(
        refused.contains("error: worker 0: it does not answer"),
        "{refused}"
    );
    let begun = Instant::now();
    assert_eq!(watched.http("GET", "/server", "").status, 200);
    assert!(begun.elapsed() < Duration::from_millis(500));
    let rows = watched.until("workers", |rows| rows[0]["state"] == "blocked");
    assert!(rows[0]["loop_lag"].as_f64() > Some(4.0), "{rows:#}");
    watched.until("workers", |rows| {
        rows[0]["answers"] == true && rows[0]["state"] == "ready"
    });
    drop(client);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// Nothing piles up that it has yet to read, and nobody else waits for it.
#[test]
fn a_stopped_worker_holds_up_nobody() {
    let watched = start("process", "");
    let rows = watched.ask("workers");
    let pid = row(&rows, 0)["pid"].as_i64().unwrap() as i32;
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let scrapes: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = watched.connect();
            writeln!(stream, "workers").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(watched.line("run up me -w 1"), "ME from 1\n");
    assert_eq!(watched.http("GET", "/server", "").status, 200);
    assert!(begun.elapsed() < Duration::from_millis(500));
    for _ in 0..5 {
        let rows = watched.ask("workers");
        assert_eq!(row(&rows, 0)["answers"], false, "{rows:#}");
        assert_eq!(row(&rows, 1)["answers"], true, "{rows:#}");
    }
    drop(scrapes);
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    watched.until("workers", |rows| row(rows, 0)["answers"] == true);
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// What the command `aioxide` prints, where it prints it, and its exit code.
fn aioxide(folder: &Folder, args: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aioxide-command"));
    let output = command
        .args(args)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code().unwrap(),
    )
}

#[test]
fn the_command_passes_commands_on() {
    let folder = Folder::new();
    let watched = start("process", "");
    let door = watched.door();
    let socket = format!("--socket={}", door.display());
    let (out, _, code) = aioxide(&folder, &[&socket, "workers"]);
    assert!(
        out.starts_with("WORKER") && out.lines().count() == 3,
        "{out}"
    );
    assert_eq!(code, 0);
    let (out, _, code) = aioxide(&folder, &[&socket, "workers", "--json"]);
    assert_eq!((json(&out)[1]["index"].as_u64(), code), (Some(1), 0));
    let (out, _, code) = aioxide(&folder, &[&socket, "scale", "3"]);
    assert_eq!((&*out, code), ("the number of workers is 3\n", 0));
    let (out, _, _) = aioxide(&folder, &[&socket, "run", "up", "a/b c", "--worker", "2"]);
    assert_eq!(out, "A/B C from 2\n");
    let (_, error, code) = aioxide(&folder, &[&socket, "scale", "0"]);
    assert!(
        error.starts_with("error: the number of workers is 1 to"),
        "{error}"
    );
    assert_eq!(code, 1);
    let (_, error, code) = aioxide(&folder, &[&socket, "relod"]);
    assert!(error.contains("did you mean `reload`?"), "{error}");
    assert_eq!(code, 1);
    let (_, _, code) = aioxide(&folder, &["--no-such-flag", "workers"]);
    assert_eq!(code, 1);
    let nowhere = format!("--socket={}", folder.file("nowhere").display());
    let (_, error, code) = aioxide(&folder, &[&nowhere, "workers"]);
    assert!(error.contains("nowhere"), "{error}");
    assert_eq!(code, 2);
    // It ends when the server has.
    let (out, _, code) = aioxide(&folder, &[&socket, "stop"]);
    assert!(out.starts_with("accepted"), "{out}");
    assert_eq!(code, 0);
    let (_, _, code) = aioxide(&folder, &[&socket, "workers"]);
    assert_eq!(code, 2);
    assert_graceful(&watched.server.wait());
}

#[test]
fn the_command_finds_servers_by_their_doors() {
    let folder = Folder::new();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monitored"));
        command
            .env("RUNTIME_DIRECTORY", folder.path())
            .env_remove("AIOXIDE_MONITOR");
        let mut server = Running::start(&mut command);
        server.wait_for("1 worker is ready");
        server
    };
    let [first, second] = [start(), start()];
    let pids = [&first, &second].map(|server| server.pid().as_raw_nonzero().get());
    let (out, _, code) = aioxide(&folder, &["list", "--json"]);
    assert_eq!(code, 0);
    let servers = json(&out);
    for pid in pids {
        let found = servers
            .as_array()
            .unwrap()
            .iter()
            .find(|server| server["pid"] == pid);
        assert_eq!(found.expect("is listed")["workers"], 1, "{out}");
    }
    let (_, error, code) = aioxide(&folder, &["workers"]);
    assert!(error.contains("there are several servers"), "{error}");
    assert_eq!(code, 2);
    let pid = pids[1].to_string();
    let (out, _, _) = aioxide(&folder, &["--server", &pid, "--json", "server"]);
    assert_eq!(json(&out)["pid"], pids[1]);
    let (_, error, code) = aioxide(&folder, &["--server", "nobody", "workers"]);
    assert!(error.contains("no server `nobody`"), "{error}");
    assert_eq!(code, 2);
    for server in [first, second] {
        assert_graceful(&server.stop(Signal::TERM));
    }
}

under_both_isolations!(
    a_person_is_greeted_and_prompted,
    lines_and_http_are_one_vocabulary,
    the_door_is_the_users_own,
    acts_answer_when_they_are_done,
    an_act_that_fails_says_so,
    a_second_act_is_refused_while_one_is_under_way,
    a_drain_keeps_the_delay_and_a_stop_ends_it,
    the_end_of_the_connection_is_the_end_of_the_server,
    events_are_told_and_followed,
    followers_are_bounded,
    hostile_clients_delay_nobody,
    health_is_told_over_tcp,
    workers_tell_their_figures,
    contexts_are_told_by_function,
    timers_are_told_and_acted_upon,
    the_programs_own_commands_are_run,
    counters_never_fall,
    a_worker_that_does_not_answer_is_shown_as_such,
);
