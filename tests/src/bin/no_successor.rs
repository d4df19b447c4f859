//! What a supervisor may find on disk that can't replace it, as `AIOXIDE_TEST_SUCCESSOR` says, or the file of that path.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let stdin = std::io::stdin();
    let socket = stdin.as_fd().try_clone_to_owned().map(UnixStream::from);
    let mut socket = socket.expect("stdin can be duplicated");
    let what = std::env::var("AIOXIDE_TEST_SUCCESSOR").unwrap_or_default();
    let what = std::fs::read_to_string(&what).unwrap_or(what);
    match what.as_str() {
        "crashes" => std::process::abort(),
        "fails" => return ExitCode::from(7),
        "hangs" => {}
        // From a time to come.
        "another-format" => {
            let mut greeting = b"aioxide-handover\0".to_vec();
            greeting.extend_from_slice(&999_u16.to_le_bytes());
            greeting.extend_from_slice(b"\x059.9.9");
            socket.write_all(&greeting).expect("the greeting is sent");
        }
        "stranger" => socket.write_all(b"hello?\n").expect("it is sent"),
        other => panic!("`{other}`"),
    }
    // Until it is killed, or the supervisor is gone.
    let _ = socket.read_to_end(&mut Vec::new());
    ExitCode::FAILURE
}
