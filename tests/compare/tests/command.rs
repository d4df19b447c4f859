//! The command itself, as short as it can be.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aioxide-compare"))
}

#[test]
fn it_writes_a_page_and_a_plot() {
    let out = tempfile::tempdir().unwrap();
    let output = command()
        .args([
            "--only",
            "context,threads,http,memory",
            "--rounds",
            "1",
            "--seconds",
            "0.1",
            "--without-python",
            "--out",
        ])
        .arg(out.path())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");

    let page = fs::read_to_string(out.path().join("comparison.md")).unwrap();
    for part in [
        "## Context, enter and exit",
        "## Group of 1000",
        "## Context on two threads, in a loop",
        "## HTTP on fresh connections",
        "## Memory",
        "| aioxide guard |",
        "| an HTTP request, CPU |",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("NaN") && !page.contains("## Echo"), "{page}");
    let plot = fs::read_to_string(out.path().join("comparison.svg")).unwrap();
    assert!(plot.contains("aioxide guard"), "{plot}");
}

#[test]
fn none_is_left_behind_when_it_is_stopped() {
    let mut child = command()
        .args([
            "--only",
            "restart",
            "--rounds",
            "1",
            "--seconds",
            "600",
            "--without-python",
        ])
        .args(["--out", "/nowhere"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once something is under load.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    while fs::read_to_string(&children).unwrap().is_empty() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    // Servers have its stderr too: it ends with the last of them.
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
}

/// What `load` with these options tells of a server of this kind.
fn load(kind: &str, options: &[&str]) -> serde_json::Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut server = command()
        .args(["serve", kind, &address.port().to_string(), "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let output = command()
        .args(["load", &address.to_string(), "--seconds", "1"])
        .args(options)
        .output();
    server.kill().unwrap();
    server.wait().unwrap();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

#[test]
fn a_load_is_told_in_json() {
    for (kind, options) in [("bare-threads", &[][..]), ("hyper-threads", &["--http"])] {
        let told = load(kind, options);
        assert!(told["requests"].as_u64() > Some(64), "{told}");
        assert_eq!(told["connections"], 64);
        assert_eq!(told["failed"]["reset"], 0);
        assert!(told["latency_us"]["p99"].as_f64() > Some(0.0), "{told}");
    }
}

#[test]
fn a_wrong_argument_is_told() {
    for (args, told) in [
        (
            ["--only", "contexts"],
            "possible values: context, threads, scope, echo",
        ),
        (
            ["--seconds", "0"],
            "a number of seconds above 0 is expected",
        ),
        (["--rounds", "0"], "0 is not in 1.."),
    ] {
        let output = command().args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(told), "{text}");
    }
}
