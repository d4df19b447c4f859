//! A client of a server's door, and of its health checks.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{Folder, PATIENCE, Running};

/// A server with a door, and what is known of it.
pub struct Watched {
    /// The server itself.
    pub server: Running,
    folder: Folder,
}

/// What came back over HTTP.
#[derive(Debug)]
pub struct Response {
    /// `200`, ..
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body, as it came.
    pub body: String,
}

impl Response {
    /// As it came, with nothing behind it.
    pub fn read(response: &str) -> Response {
        let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1);
        let status = status.and_then(|status| status.parse().ok());
        Response {
            status: status.expect("a status"),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The body, which is JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        json(&self.body)
    }
}

/// `text`, which is JSON.
#[track_caller]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

impl Watched {
    /// Starts `program` with a door, and waits until it is ready.
    pub fn start(program: &str, isolation: &str, args: &str) -> Watched {
        let mut watched = Watched::starting(program, isolation, args);
        watched.server.wait_for("ready, listening on");
        watched
    }

    /// As [`start`](Watched::start), without waiting for more than the door.
    pub fn starting(program: &str, isolation: &str, args: &str) -> Watched {
        let folder = Folder::new();
        let mut command = Command::new(program);
        command
            .args(["--isolation", isolation])
            .args(args.split_whitespace())
            .arg("--monitor")
            .arg(folder.file("door"))
            .env_remove("AIOXIDE_MONITOR")
            .env_remove("AIOXIDE_HEALTH");
        let mut server = Running::start(&mut command);
        server.wait_for("the door is");
        Watched { server, folder }
    }

    /// Where the door is.
    pub fn door(&self) -> std::path::PathBuf {
        self.folder.file("door")
    }

    /// A file in the folder of the door.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.file(name)
    }

    /// What a line gives, as `echo LINE | nc -NU DOOR` does it.
    pub fn line(&self, line: &str) -> String {
        line_at(&self.door(), line)
    }

    /// As [`line`](Watched::line), with JSON for an answer.
    #[track_caller]
    pub fn ask(&self, line: &str) -> Value {
        json(&self.line(&format!("{line} --json")))
    }

    /// A request over HTTP; `accept` may be empty.
    pub fn http(&self, method: &str, path: &str, accept: &str) -> Response {
        let stream = connect(&self.door());
        http_over(stream, method, path, accept)
    }

    /// A connection to the door.
    pub fn connect(&self) -> UnixStream {
        connect(&self.door())
    }

    /// Asks until `accepts` takes the answer.
    #[track_caller]
    pub fn until(&self, line: &str, accepts: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(line);
            if accepts(&answer) {
                return answer;
            }
            assert!(std::time::Instant::now() < deadline, "`{line}`: {answer:#}");
            // The next answer is another one when something has happened, which nothing tells.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A connection to the door there.
pub fn connect(door: &Path) -> UnixStream {
    let stream = UnixStream::connect(door).expect("the door is open");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    stream
}

/// What a line gives at the door there.
pub fn line_at(door: &Path, line: &str) -> String {
    let mut stream = connect(door);
    writeln!(stream, "{line}").expect("the door takes a line");
    stream
        .shutdown(Shutdown::Write)
        .expect("a stream can be shut down");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the door answers");
    answer
}

/// A request over TCP.
pub fn http_at(address: SocketAddr, method: &str, path: &str) -> Response {
    http_over(crate::connect(address), method, path, "")
}

fn http_over<S: Read + Write>(mut stream: S, method: &str, path: &str, accept: &str) -> Response {
    let accept = match accept {
        "" => String::new(),
        accept => format!("accept: {accept}\r\n"),
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: aioxide\r\n{accept}\r\n"
    )
    .expect("a request can be sent");
    let mut response = String::new();
    stream
        .read_to_string(&mut response)
        .expect("there is a response");
    Response::read(&response)
}
