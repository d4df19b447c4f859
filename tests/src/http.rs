//! The fixture `web`, and a client of HTTP/1 that sends what it is told and waits for nothing else.

use std::io::{self, Read, Write};
use std::process::Command;

use crate::Running;

/// Starts the fixture, which is the program given.
pub fn server(program: &str, isolation: &str, args: &str) -> Running {
    Running::start(
        Command::new(program)
            .args(["--isolation", isolation])
            .args(args.split_whitespace()),
    )
}

/// Asks for a path, to which the connection is to be upgraded if it is `/upgrade`.
pub fn ask(stream: &mut impl Write, path: &str) {
    let upgrade = match path {
        "/upgrade" => "connection: upgrade\r\nupgrade: echo\r\n",
        _ => "",
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{upgrade}\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("the server reads");
}

/// A response: its head, in lower case, and its body.
pub fn response(stream: &mut impl Read) -> io::Result<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let mut body = vec![0; length(&head)];
    stream.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

fn length(head: &str) -> usize {
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next());
    length.map_or(0, |length| length.parse().expect("a length"))
}

/// Whether the client is to use another connection for its next request.
pub fn says_close(head: &str) -> bool {
    head.contains("\r\nconnection: close\r\n")
}

/// Asserts that it is closed.
#[track_caller]
pub fn assert_end(stream: &mut impl Read) {
    assert!(matches!(stream.read(&mut [0]), Ok(0)), "it is closed");
}
