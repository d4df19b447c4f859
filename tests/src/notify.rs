//! A service manager's end of `sd_notify`, which keeps each datagram.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{Folder, PATIENCE};

/// Listens as systemd does, under a path or an abstract name.
#[derive(Debug)]
pub struct FakeSystemd {
    socket: UnixDatagram,
    name: String,
    _folder: Folder,
    /// What has come, as lines.
    said: Vec<Vec<String>>,
    /// How many datagrams `wait_for` has gone through.
    read: usize,
}

impl FakeSystemd {
    /// At a path.
    pub fn at_path() -> FakeSystemd {
        let folder = Folder::new();
        let path: PathBuf = folder.file("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket can be made");
        let name = path.to_str().expect("a plain path").to_owned();
        FakeSystemd::of(socket, name, folder)
    }

    /// At a name without a file.
    pub fn abstract_name() -> FakeSystemd {
        let folder = Folder::new();
        let name = folder.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket can be made");
        FakeSystemd::of(socket, format!("@{name}"), folder)
    }

    fn of(socket: UnixDatagram, name: String, _folder: Folder) -> FakeSystemd {
        FakeSystemd {
            socket,
            name,
            _folder,
            said: Vec::new(),
            read: 0,
        }
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next datagram of which a line begins with `start`; gives its lines.
    #[track_caller]
    pub fn wait_for(&mut self, start: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(lines) = self.said.get(self.read) {
                self.read += 1;
                if lines.iter().any(|line| line.starts_with(start)) {
                    return lines.clone();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.receive(left), "no `{start}`: {:#?}", self.said);
        }
    }

    /// All that has come since the last `wait_for`, and what comes within this time.
    pub fn rest(&mut self, within: Duration) -> Vec<Vec<String>> {
        let deadline = Instant::now() + within;
        while self.receive(deadline.saturating_duration_since(Instant::now())) {}
        let rest = self.said[self.read..].to_vec();
        self.read = self.said.len();
        rest
    }

    fn receive(&mut self, within: Duration) -> bool {
        let timeout = within.max(Duration::from_millis(1));
        self.socket
            .set_read_timeout(Some(timeout))
            .expect("a timeout can be set");
        let mut buffer = [0; 4096];
        let Ok(length) = self.socket.recv(&mut buffer) else {
            return false;
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        self.said.push(text.lines().map(str::to_owned).collect());
        true
    }
}
