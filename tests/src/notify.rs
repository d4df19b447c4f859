//! A service manager's end of `sd_notify`, which keeps each datagram, and the descriptors that are to be stored.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

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
    store: BTreeMap<String, OwnedFd>,
    barriers: Option<Vec<OwnedFd>>,
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
            store: BTreeMap::new(),
            barriers: None,
        }
    }

    /// From now on it lets nobody pass a barrier.
    pub fn hold_barriers(&mut self) {
        self.barriers = Some(Vec::new());
    }

    /// What it has stored, by its name.
    pub fn store(&self) -> &BTreeMap<String, OwnedFd> {
        &self.store
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
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let Ok(received) = rustix::net::recvmsg(&self.socket, into, &mut control, flags) else {
            return false;
        };
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        let length = received.bytes;
        let text = String::from_utf8_lossy(&buffer[..length]);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        self.deal_with(&lines, descriptors);
        self.said.push(lines);
        true
    }

    fn deal_with(&mut self, lines: &[String], descriptors: Vec<OwnedFd>) {
        let says = |line: &str| lines.iter().any(|said| said == line);
        let named = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
        let name = named.unwrap_or_default().to_owned();
        if says("FDSTORE=1") {
            let one = descriptors.into_iter().next().expect("a descriptor");
            self.store.insert(name, one);
        } else if says("FDSTOREREMOVE=1") {
            self.store.remove(&name).expect("it is stored");
        } else if let Some(barriers) = self.barriers.as_mut().filter(|_| says("BARRIER=1")) {
            barriers.extend(descriptors);
        }
    }
}
