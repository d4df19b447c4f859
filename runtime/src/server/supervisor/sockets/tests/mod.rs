//! The table on the sockets of the system that the tests run on.

mod histories;
mod inet;
mod unix;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::{Kernel, Order, Sockets};
use crate::server::line::Role;
use crate::server::supervisor::policy::WorkerId;

const A: Role = Role::Slot(0);
const B: Role = Role::Slot(1);

/// Port 0 of a local address of this test's own, so that a port that it has closed stays closed.
fn localhost() -> SocketAddr {
    static TESTS: AtomicU8 = AtomicU8::new(2);
    thread_local!(static LAST: u8 = TESTS.fetch_add(1, Relaxed));
    SocketAddr::from(([127, 0, 0, LAST.with(|last| *last)], 0))
}

fn tcp(fd: OwnedFd) -> TcpListener {
    TcpListener::from(fd)
}

/// A table in which worker 0 runs in slot A and worker 1 in slot B.
fn table() -> Sockets {
    let mut sockets = Sockets::new(Kernel, false);
    sockets.begin(WorkerId(0), A);
    sockets.begin(WorkerId(1), B);
    sockets
}

/// A listener for `worker`, on its next shared port.
fn any(sockets: &mut Sockets, worker: WorkerId) -> TcpListener {
    tcp(sockets
        .listen(worker, &localhost().to_string(), &[localhost()], false)
        .unwrap())
}

fn on(sockets: &mut Sockets, worker: WorkerId, address: SocketAddr) -> io::Result<TcpListener> {
    sockets
        .listen(worker, &address.to_string(), &[address], false)
        .map(tcp)
}

/// How many connections wait at `listener`; those are closed.
fn waiting(listener: &TcpListener) -> usize {
    std::iter::from_fn(|| match listener.accept() {
        Ok(accepted) => Some(accepted),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("accept: {error}"),
    })
    .count()
}

fn connect(address: SocketAddr, times: usize) -> Vec<TcpStream> {
    (0..times)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect()
}

fn names(sockets: &Sockets) -> Vec<String> {
    sockets.names().map(|name| name.to_string()).collect()
}

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("aioxide-{}-{test}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn sockets_are_not_inherited_and_do_not_block() {
    let folder = Folder::new("flags");
    let mut sockets = table();
    let fds = [
        sockets
            .listen(WorkerId(0), "a:0", &[localhost()], false)
            .unwrap(),
        sockets
            .bind_udp(WorkerId(0), "a:0", &[localhost()])
            .unwrap(),
        sockets
            .listen_unix(WorkerId(0), &folder.0.join("s"), 0o600)
            .unwrap(),
    ];
    for fd in fds {
        assert!(
            rustix::io::fcntl_getfd(&fd)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        assert!(
            rustix::fs::fcntl_getfl(&fd)
                .unwrap()
                .contains(rustix::fs::OFlags::NONBLOCK)
        );
    }
}
