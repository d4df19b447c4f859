//! `aioxide open`, as it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::door::Response;
use crate::{Folder, PATIENCE};

/// A page of a server, served; dropped, it is gone.
pub struct Opened {
    child: Child,
    /// Where it is served.
    pub address: SocketAddr,
    /// The file that leads there.
    pub ticket: PathBuf,
    /// With the token.
    pub url: String,
    folder: Folder,
}

impl Opened {
    /// Starts `program`, which is the command `aioxide`, for the server with this door.
    pub fn start(program: &str, door: &Path) -> Opened {
        let folder = Folder::new();
        let mut command = Command::new(program);
        command
            .arg("--socket")
            .arg(door)
            .args(["open", "--no-browser"])
            .env("XDG_RUNTIME_DIR", folder.path());
        Opened::of(&mut command, folder)
    }

    /// As `command` starts it, with the folder of its file.
    pub fn of(command: &mut Command, folder: Folder) -> Opened {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let second = lines.next().unwrap_or_default();
        let between = |text: &str, from: &str, to: &str| {
            let (_, rest) = text.split_once(from)?;
            Some(rest.split_once(to)?.0.to_owned())
        };
        let told = || {
            let address = between(&first, "is shown at http://", "/ ")?;
            let ticket = between(&second, "open ", ", or ")?;
            let url = between(&second, ", or ", ", which works once")?;
            Some((address.parse().ok()?, ticket.into(), url))
        };
        let Some((address, ticket, url)) = told() else {
            panic!("not what it tells: {first}\n{second}");
        };
        Opened {
            child,
            address,
            ticket,
            url,
            folder,
        }
    }

    /// The folder of its file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The origin of the page.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The path and the query of its first address.
    pub fn entrance(&self) -> &str {
        &self.url[self.origin().len()..]
    }

    /// The cookie that the token is good for.
    #[track_caller]
    pub fn enter(&self) -> String {
        let host = self.address.to_string();
        let response = self.send("GET", self.entrance(), &[("host", &host)]);
        assert_eq!(response.status, 200, "{response:?}");
        let cookie = response
            .head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie.expect("a cookie");
        let (cookie, attributes) = cookie.split_once("; ").expect("attributes");
        assert_eq!(attributes, "path=/; httponly; samesite=strict");
        cookie.to_owned()
    }

    /// A request with these headers and no others.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut stream = crate::connect(self.address);
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let request = format!("{method} {target} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .expect("a request can be sent");
        let mut response = String::new();
        stream
            .read_to_string(&mut response)
            .expect("there is a response");
        Response::read(&response)
    }

    /// Ends it, and gives its exit code.
    pub fn end(&mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it can be signalled");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().expect("it can be waited for");
            if let Some(status) = ended {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it has not ended");
            // Nothing tells but its end.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
