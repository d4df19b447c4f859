//! What a running server shows of its tasks and timers, what goes wrong in the background, and its log.

use std::io::{Read, Write};
use std::net::TcpStream;

use aioxide_tests::door::Watched;
use aioxide_tests::{Signal, under_both_isolations};
use serde_json::Value;

const WATCHED: &str = env!("CARGO_BIN_EXE_watched");

/// The row of that kind and name.
fn row<'r>(rows: &'r Value, kind: &str, name: &str) -> Option<&'r Value> {
    let mut rows = rows.as_array().expect("rows").iter();
    rows.find(|row| row["kind"] == kind && row["name"] == name)
}

fn timer<'r>(rows: &'r Value, name: &str) -> &'r Value {
    let mut rows = rows.as_array().expect("rows").iter();
    rows.find(|row| row["name"] == name).expect("a timer")
}

fn say(stream: &mut TcpStream, byte: u8) {
    stream.write_all(&[byte]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

/// By name and age, and then how they ended, after how long, and why.
fn tasks_are_known_while_they_run_and_afterwards(isolation: &str) {
    let mut watched = Watched::starting(WATCHED, isolation, "--workers 1");
    let address = watched.server.wait_until_ready();
    let mut client = aioxide_tests::connect(address);
    say(&mut client, b'e');
    assert_eq!(watched.line("run begin"), "");
    let tasks = watched.until("tasks", |tasks| {
        row(&tasks["running"], "tick", "hangs").is_some()
            && row(&tasks["ended"], "tick", "fails").is_some()
    });
    let handler = row(&tasks["running"], "handler", &address.to_string());
    assert!(handler.expect("a handler")["age"].is_f64(), "{tasks:#}");
    assert!(
        row(&tasks["running"], "child", "sleeper").is_some(),
        "{tasks:#}"
    );
    let failed = row(&tasks["ended"], "tick", "fails").unwrap();
    assert_eq!(failed["how"], "failed");
    assert_eq!(failed["why"], "its own mistake");
    assert_eq!(failed["worker"], "worker 0");
    assert!(row(&tasks["ended"], "tick", "beat").unwrap()["how"] == "completed");

    let timers = watched.ask("timers");
    let hangs = timer(&timers, "hangs");
    assert_eq!(
        (&hangs["running"], &hangs["interval"]),
        (&1.into(), &3600.0.into())
    );
    assert!(hangs["running_since"].is_f64(), "{timers:#}");
    assert!(hangs["last_length"].is_null(), "{timers:#}");
    let fails = timer(&timers, "fails");
    assert!(
        fails["last_length"].is_f64() && fails["lateness"].is_f64(),
        "{timers:#}"
    );
    let nightly = timer(&timers, "nightly");
    assert_eq!(nightly["calendar"], "0 3 * * * in Asia/Seoul");
    assert!(
        nightly["interval"].is_null() && nightly["next_due_in"].is_f64(),
        "{timers:#}"
    );

    let mut panics = aioxide_tests::connect(address);
    panics.write_all(b"p").unwrap();
    assert_eq!(panics.read(&mut [0]).unwrap(), 0);
    drop(client);
    assert_eq!(watched.line("run end"), "");
    let tasks = watched.until("tasks", |tasks| {
        row(&tasks["ended"], "tick", "hangs").is_some()
            && row(&tasks["ended"], "child", "sleeper").is_some()
            && tasks["running"]
                .as_array()
                .unwrap()
                .iter()
                .all(|task| task["kind"] != "handler")
    });
    let hangs = row(&tasks["ended"], "tick", "hangs").unwrap();
    assert_eq!(hangs["how"], "cancelled");
    assert_eq!(hangs["why"], "the timer was stopped or dropped");
    let sleeper = row(&tasks["ended"], "child", "sleeper").unwrap();
    assert_eq!(
        (&sleeper["how"], &sleeper["why"]),
        (&"cancelled".into(), &"it was aborted".into())
    );
    let ended = tasks["ended"].as_array().unwrap();
    let handlers = ended.iter().filter(|task| task["kind"] == "handler");
    let hows: Vec<&str> = handlers.map(|task| task["how"].as_str().unwrap()).collect();
    assert!(
        hows.contains(&"panicked") && hows.contains(&"completed"),
        "{tasks:#}"
    );
    let text = watched.line("tasks");
    assert!(
        text.starts_with("WORKER") && text.contains("it was aborted"),
        "{text}"
    );
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// More of them than an answer may have are cut, and told to be. Their worker goes on.
fn many_tasks_do_no_harm(isolation: &str) {
    let mut watched = Watched::starting(WATCHED, isolation, "--workers 1");
    watched.server.wait_until_ready();
    assert_eq!(watched.line("run crowd"), "");
    let tasks = watched.ask("tasks");
    let missing = &tasks["missing"][0];
    assert_eq!(missing["worker"], "worker 0");
    // On a busy machine it takes too long to list them.
    let listed = tasks["running"].as_array().unwrap().len() as u64;
    match missing["answers"].as_bool().unwrap() {
        true => assert!(listed + missing["left_out"].as_u64().unwrap() >= 15_000),
        false => assert_eq!(listed, 0),
    }
    let rows = watched.until("workers", |rows| rows[0]["answers"] == true);
    assert_eq!(rows[0]["generation"], 0, "{rows:#}");
    assert_eq!(watched.line("run end"), "");
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

fn what_fails_in_the_background_is_an_event(isolation: &str) {
    let mut watched = Watched::starting(WATCHED, isolation, "--workers 1");
    let address = watched.server.wait_until_ready();
    let told = |events: &Value, kind: &str, text: &str| {
        let mut events = events.as_array().unwrap().iter();
        events.any(|event| {
            event["event"] == kind
                && event["worker"] == 0
                && event["text"].as_str().unwrap().contains(text)
        })
    };
    say(&mut aioxide_tests::connect(address), b'F');
    watched.until("events", |events| {
        told(
            events,
            "teardown",
            "worker 0: the teardown of `failing` failed: its own mistake",
        )
    });
    watched.line("run begin");
    watched.until("events", |events| {
        told(
            events,
            "tick",
            "worker 0: a tick of `fails` failed: its own mistake",
        )
    });
    watched.line("run end");
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// In one worker or in all, until the next restart.
fn the_filter_of_the_log_is_changed(isolation: &str) {
    let watched = Watched::start(WATCHED, isolation, "--own-log");
    let wrong = watched.http("POST", "/log", "");
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let wrong = watched.line("log warn,echo=loud");
    assert!(
        wrong.starts_with("error: `echo=loud` isn't a directive of a filter"),
        "{wrong}"
    );
    assert_eq!(watched.http("GET", "/log/debug", "").status, 405);
    watched.line("run say");
    if isolation == "process" {
        assert_eq!(watched.ask("log debug 0")["done"], "worker 0 logs `debug`");
        watched.line("run say");
        let unknown = watched.line("log debug 7");
        assert!(unknown.contains("there is no worker `7`"), "{unknown}");
    } else {
        let refused = watched.line("log debug 0");
        assert!(refused.contains("leave out the worker"), "{refused}");
    }
    assert_eq!(
        watched.http("POST", "/log/debug", "").json()["done"],
        "the server logs `debug`"
    );
    watched.line("run say");
    if isolation == "process" {
        watched.ask("restart 0");
        watched.line("run say");
    }
    assert_eq!(watched.ask("log info")["done"], "the server logs `info`");
    watched.line("run say");
    let ended = watched.server.stop(Signal::TERM);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let said = [0, 1].map(|worker| ended.lines(&format!("a detail of worker {worker}")).count());
    let expected = match isolation {
        "process" => [2, 2],
        _ => [1, 1],
    };
    assert_eq!(said, expected, "{:#?}", ended.log);
}

under_both_isolations!(
    tasks_are_known_while_they_run_and_afterwards,
    what_fails_in_the_background_is_an_event,
    many_tasks_do_no_harm,
    the_filter_of_the_log_is_changed,
);
