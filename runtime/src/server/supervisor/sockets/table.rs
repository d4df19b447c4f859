//! The server's listening sockets. They belong to the supervisor, so that they outlive every worker.
//!
//! A slot has one `SO_REUSEPORT` socket per address; the kernel spreads connections over them. A slot
//! keeps its sockets across its workers: the backlog waits for the successor, and a worker that takes over
//! shares them with the one it replaces. Where the kernel doesn't balance (not Linux), all slots share one
//! socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};

use crate::server::Addresses;
use crate::server::line::Role;
use crate::server::report;
use crate::server::supervisor::policy::WorkerId;

/// Whether the kernel spreads connections over the sockets of one port, in which case they can be parked.
const BALANCES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The most connections that may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// Roles that may share an address: the workers with each other, an extra with nobody.
fn group_of(role: Role) -> Option<usize> {
    match role {
        Role::Slot(_) => None,
        Role::Extra(index) => Some(index),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Tcp,
    Udp,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Inet(Kind, SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Inet(Kind::Tcp, address) => write!(f, "{address}"),
            Name::Inet(Kind::Udp, address) => write!(f, "{address} (udp)"),
            Name::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A group's n-th request for the address that it wrote so. Only requests for port 0 are counted: each
/// gives another port, to all workers the same.
type Asked = (Option<usize>, Kind, String, usize);

/// The table of all listening sockets of a server.
pub(crate) struct Sockets {
    share_port: bool,
    names: BTreeMap<Name, Shared>,
    pins: BTreeMap<Asked, SocketAddr>,
    workers: BTreeMap<WorkerId, Claim>,
    /// Slots whose successor is too long in coming.
    vacant: BTreeSet<Role>,
}

/// What the slots hold of one address.
struct Shared {
    group: Option<usize>,
    slots: BTreeMap<Role, Socket>,
    /// Unlinked with the last slot's socket.
    _file: Option<UnixFile>,
}

struct Socket {
    fd: OwnedFd,
    parked: bool,
    /// The living workers that have been given it.
    workers: BTreeSet<WorkerId>,
}

/// What a living worker has asked for.
struct Claim {
    slot: Role,
    /// Told to stop, or killed: it accepts no more, for however long it stays.
    leaving: bool,
    closed: bool,
    ephemeral: BTreeMap<(Kind, String), usize>,
}

impl Sockets {
    /// With `share_port`, other processes of the same user may listen on the same addresses.
    pub(crate) fn new(share_port: bool) -> Sockets {
        Sockets {
            share_port,
            names: BTreeMap::new(),
            pins: BTreeMap::new(),
            workers: BTreeMap::new(),
            vacant: BTreeSet::new(),
        }
    }

    /// A worker is started in `slot`; only now may it ask.
    pub(crate) fn begin(&mut self, worker: WorkerId, slot: Role) {
        self.vacant.remove(&slot);
        let claim = Claim {
            slot,
            leaving: false,
            closed: false,
            ephemeral: BTreeMap::new(),
        };
        self.workers.insert(worker, claim);
    }

    /// A worker is ready: what its slot holds and it hasn't asked for is closed, and vacant slots leave
    /// their connections to it.
    pub(crate) fn ready(&mut self, worker: WorkerId) {
        let Some(claim) = self.workers.get(&worker) else {
            return;
        };
        self.vacant.remove(&claim.slot);
        for shared in self.names.values_mut() {
            let unasked = shared
                .slots
                .get(&claim.slot)
                .is_some_and(|socket| !socket.workers.contains(&worker));
            if unasked {
                shared.slots.remove(&claim.slot);
            }
        }
        self.settle();
        self.park_vacant();
    }

    /// A worker is on its way out. It may keep its sockets, but doesn't keep its slot from being parked.
    pub(crate) fn leaving(&mut self, worker: WorkerId) {
        if let Some(claim) = self.workers.get_mut(&worker) {
            claim.leaving = true;
        }
        self.park_vacant();
    }

    /// A worker is gone; its slot's sockets stay.
    pub(crate) fn ended(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        for shared in self.names.values_mut() {
            for socket in shared.slots.values_mut() {
                socket.workers.remove(&worker);
            }
        }
        self.park_vacant();
    }

    /// Takes a slot without a worker that stays out of the kernel's choice wherever a sibling serves, now or later,
    /// until a successor asks. What waits in its backlog is reset.
    pub(crate) fn park(&mut self, slot: Role) {
        self.vacant.insert(slot);
        self.park_vacant();
    }

    /// Closes all that a slot holds, so that its worker's own drop ends the port; that worker gets no more.
    pub(crate) fn close(&mut self, slot: Role) {
        self.vacant.remove(&slot);
        for claim in self.workers.values_mut().filter(|claim| claim.slot == slot) {
            claim.closed = true;
        }
        for shared in self.names.values_mut() {
            shared.slots.remove(&slot);
        }
        self.settle();
    }

    /// What is listened on, for the log.
    pub(crate) fn names(&self) -> impl Iterator<Item = impl fmt::Display> {
        self.names.keys()
    }

    /// Where that is, by what was asked for.
    pub(crate) fn addresses(&self) -> Addresses {
        let open = |kind, at: &SocketAddr| self.names.contains_key(&Name::Inet(kind, *at));
        let inet = self
            .pins
            .iter()
            .filter(|((_, kind, ..), at)| open(*kind, at))
            .map(|((_, _, text, _), at)| (text.clone(), *at));
        let unix = self.names.keys().filter_map(|name| match name {
            Name::Unix(path) => Some(path.clone()),
            Name::Inet(..) => None,
        });
        Addresses::new(inet, unix)
    }

    /// A TCP listener for the address written `text`, bound to the first of `addresses` that can be.
    ///
    /// What `text` was bound to first stays its address; a worker that couldn't resolve it this time may
    /// leave `addresses` empty.
    pub(crate) fn listen(
        &mut self,
        worker: WorkerId,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<OwnedFd> {
        self.inet(worker, Kind::Tcp, text, addresses)
            .map_err(|error| cannot("listen on", text, &error))
    }

    /// A UDP socket; otherwise as [`listen`](Self::listen).
    pub(crate) fn bind_udp(
        &mut self,
        worker: WorkerId,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<OwnedFd> {
        self.inet(worker, Kind::Udp, text, addresses)
            .map_err(|error| cannot("bind", text, &error))
    }

    /// A listener on a Unix socket, which all slots share. `mode` counts where the socket is opened.
    pub(crate) fn listen_unix(
        &mut self,
        worker: WorkerId,
        path: &Path,
        mode: u32,
    ) -> io::Result<OwnedFd> {
        let path = std::path::absolute(path)?;
        let fd = self
            .slot_of(worker)
            .and_then(|slot| self.take(worker, slot, &Name::Unix(path.clone()), mode));
        fd.map(|(_, fd)| fd)
            .map_err(|error| cannot("listen on", path.display(), &error))
    }

    /// Closes what `worker` has asked for as `text`, an absolute path or an address as asked or as bound, unless
    /// another worker of its slot has it too. False if it has nothing of that name.
    pub(crate) fn unlisten(&mut self, worker: WorkerId, text: &str) -> bool {
        let Some(&Claim { slot, .. }) = self.workers.get(&worker) else {
            return false;
        };
        let literal: Option<SocketAddr> = text.parse().ok();
        let mut found = false;
        for (name, shared) in &mut self.names {
            let meant = match name {
                Name::Unix(at) => at == Path::new(text),
                Name::Inet(kind, at) => {
                    let pinned = |((group, of, asked, _), to): (&Asked, &SocketAddr)| {
                        *group == group_of(slot) && of == kind && asked == text && to == at
                    };
                    literal == Some(*at) || self.pins.iter().any(pinned)
                }
            };
            if !meant {
                continue;
            }
            let Some(socket) = shared.slots.get_mut(&slot) else {
                continue;
            };
            if socket.workers.remove(&worker) {
                found = true;
                if socket.workers.is_empty() {
                    shared.slots.remove(&slot);
                }
            }
        }
        self.settle();
        found
    }

    fn slot_of(&self, worker: WorkerId) -> io::Result<Role> {
        match self.workers.get(&worker) {
            Some(claim) if !claim.closed => Ok(claim.slot),
            _ => Err(io::Error::other("the worker is stopping")),
        }
    }

    fn inet(
        &mut self,
        worker: WorkerId,
        kind: Kind,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<OwnedFd> {
        let slot = self.slot_of(worker)?;
        let ephemeral = text.ends_with(":0") || addresses.iter().any(|address| address.port() == 0);
        let count = |claim: &Claim| claim.ephemeral.get(&(kind, text.to_owned())).copied();
        let nth = if ephemeral {
            self.workers.get(&worker).and_then(count).unwrap_or(0)
        } else {
            0
        };
        let asked = (group_of(slot), kind, text.to_owned(), nth);

        let pinned = self.pins.get(&asked).copied();
        let candidates = pinned.as_ref().map_or(addresses, std::slice::from_ref);
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for &address in candidates {
            match self.take(worker, slot, &Name::Inet(kind, address), 0) {
                Ok((port, fd)) => {
                    self.pins.insert(asked, with_port(address, port));
                    if let Some(claim) = self.workers.get_mut(&worker) {
                        claim.ephemeral.insert((kind, text.to_owned()), nth + 1);
                    }
                    return Ok(fd);
                }
                Err(error) if address.to_string() == text => failure = error,
                Err(error) => failure = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(failure)
    }

    /// The slot's socket of that name, opened if need be, and the port it is bound to.
    fn take(
        &mut self,
        worker: WorkerId,
        slot: Role,
        name: &Name,
        mode: u32,
    ) -> io::Result<(u16, OwnedFd)> {
        let port = name.port();
        let mut sibling = None;
        if let Some(shared) = self.names.get_mut(name) {
            if shared.group != group_of(slot) {
                let error = "another part of this server listens there";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, error));
            }
            if let Some(socket) = shared.slots.get_mut(&slot) {
                return Ok((port, socket.give(worker)?));
            }
            sibling = shared.slots.values().next();
        }
        let (port, fd, file) = match (name, sibling) {
            (Name::Unix(_), Some(sibling)) => (port, sibling.fd.try_clone()?, None),
            (Name::Inet(..), Some(sibling)) if !BALANCES => (port, sibling.fd.try_clone()?, None),
            (Name::Inet(kind, address), sibling) => {
                let (port, fd) = open_inet(*kind, *address, sibling.is_some() || self.share_port)?;
                (port, fd, None)
            }
            (Name::Unix(path), None) => {
                let (fd, file) = open_unix(path, mode)?;
                (port, fd, Some(file))
            }
        };
        let mut socket = Socket {
            fd,
            parked: false,
            workers: BTreeSet::new(),
        };
        let fd = socket.give(worker)?;
        let shared = self
            .names
            .entry(name.with_port(port))
            .or_insert_with(|| Shared {
                group: group_of(slot),
                slots: BTreeMap::new(),
                _file: file,
            });
        shared.slots.insert(slot, socket);
        Ok((port, fd))
    }

    fn park_vacant(&mut self) {
        if !BALANCES {
            return;
        }
        let claims = &self.workers;
        for (name, shared) in &mut self.names {
            let Name::Inet(kind, _) = name else { continue };
            let is_served = |socket: &Socket| !socket.parked && socket.is_held(claims);
            if !shared.slots.values().any(is_served) {
                continue;
            }
            for slot in &self.vacant {
                match (kind, shared.slots.get_mut(slot)) {
                    // Datagrams have no backlog that would be worth keeping the socket for.
                    (Kind::Udp, Some(socket)) if !socket.is_held(claims) => {
                        shared.slots.remove(slot);
                    }
                    (Kind::Tcp, Some(socket)) if !socket.is_held(claims) && !socket.parked => {
                        match rustix::net::shutdown(&socket.fd, rustix::net::Shutdown::Read) {
                            Ok(()) => socket.parked = true,
                            Err(error) => {
                                report::log!(warn, %name, ?slot, %error, "cannot park a listening socket")
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// To follow every removal. What no slot holds is another's to bind, so nothing is known about it any
    /// more; what is held listens, if only for a successor.
    fn settle(&mut self) {
        self.names.retain(|_, shared| !shared.slots.is_empty());
        let names = &self.names;
        self.pins
            .retain(|(_, kind, _, _), address| names.contains_key(&Name::Inet(*kind, *address)));
        for (name, shared) in &mut self.names {
            if shared.slots.values().all(|socket| socket.parked) {
                for socket in shared.slots.values_mut() {
                    if let Err(error) = socket.resume() {
                        report::log!(warn, %name, %error, "cannot listen again");
                    }
                }
            }
        }
    }
}

impl Name {
    fn port(&self) -> u16 {
        match self {
            Name::Inet(_, address) => address.port(),
            Name::Unix(_) => 0,
        }
    }

    fn with_port(&self, port: u16) -> Name {
        match self {
            Name::Inet(kind, address) => Name::Inet(*kind, with_port(*address, port)),
            Name::Unix(path) => Name::Unix(path.clone()),
        }
    }
}

impl Socket {
    /// Whether somebody has it who stays.
    fn is_held(&self, claims: &BTreeMap<WorkerId, Claim>) -> bool {
        let stays = |worker| claims.get(worker).is_some_and(|claim| !claim.leaving);
        self.workers.iter().any(stays)
    }

    /// A clone for `worker`, listening again if it was parked.
    fn give(&mut self, worker: WorkerId) -> io::Result<OwnedFd> {
        let fd = self.fd.try_clone()?;
        self.resume()?;
        self.workers.insert(worker);
        Ok(fd)
    }

    fn resume(&mut self) -> io::Result<()> {
        if self.parked {
            rustix::net::listen(&self.fd, BACKLOG)?;
            self.parked = false;
        }
        Ok(())
    }
}

fn cannot(what: &str, text: impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {text}: {error}"))
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Unless `shared`, nobody else may have the address.
///
/// The probe for that is the first socket itself: bound (for TCP also listening, since two sockets that
/// merely are bound don't collide under `SO_REUSEADDR`) before it gets `SO_REUSEPORT` for its siblings'
/// sake. So there is no moment at which two servers could both find the address free.
fn open_inet(kind: Kind, mut address: SocketAddr, shared: bool) -> io::Result<(u16, OwnedFd)> {
    let mut fd = bind_inet(kind, address, shared)?;
    let chosen = address.port() == 0;
    if chosen {
        let local: SocketAddr = rustix::net::getsockname(&fd)?.try_into()?;
        address.set_port(local.port());
    }
    if kind == Kind::Tcp {
        if chosen && BALANCES {
            // Parking loses a port that the kernel chose, but not one that was asked for.
            fd = bind_inet(kind, address, shared)?;
        }
        rustix::net::listen(&fd, BACKLOG)?;
    }
    if BALANCES && !shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    Ok((address.port(), fd))
}

fn bind_inet(kind: Kind, address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = match kind {
        Kind::Tcp => socket(family, SocketType::STREAM)?,
        Kind::Udp => socket(family, SocketType::DGRAM)?,
    };
    if kind == Kind::Tcp {
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    if shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

/// Non-blocking, and closed in other programs.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn socket(family: AddressFamily, type_: SocketType) -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;

    Ok(rustix::net::socket_with(
        family,
        type_,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn socket(family: AddressFamily, type_: SocketType) -> io::Result<OwnedFd> {
    let fd = rustix::net::socket(family, type_, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

/// Binds under a temporary name in the same folder and moves that into place, so that whoever finds the
/// path finds it listening and with its mode.
fn open_unix(path: &Path, mode: u32) -> io::Result<(OwnedFd, UnixFile)> {
    refuse_live(path)?;
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    let mut file = bind_temporary(&fd, path)?;
    fs::set_permissions(&file.path, fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&fd, BACKLOG)?;
    fs::rename(&file.path, path)?;
    path.clone_into(&mut file.path);
    Ok((fd, file))
}

/// An error unless nothing is at `path`, or the socket of a server that is gone.
fn refuse_live(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "what is there is not a socket",
            ));
        }
    }
    let probe = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A full backlog and another type of socket are signs of life too.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(Errno::ADDRINUSE.into()),
        Err(error) => Err(error.into()),
    }
}

fn bind_temporary(fd: &OwnedFd, path: &Path) -> io::Result<UnixFile> {
    let mut attempt = 0;
    loop {
        let name = format!(".{}-{attempt}", std::process::id());
        let temporary = path.with_file_name(&name);
        let bound = match SocketAddrUnix::new(&temporary) {
            Err(Errno::NAMETOOLONG) => bind_in_folder(fd, path, &name),
            address => address.and_then(|address| rustix::net::bind(fd, &address)),
        };
        match bound {
            Ok(()) => {
                let found = fs::symlink_metadata(&temporary)?;
                return Ok(UnixFile {
                    path: temporary,
                    inode: (found.dev(), found.ino()),
                });
            }
            // Left behind by a process of the same id.
            Err(Errno::ADDRINUSE) if attempt < 100 => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A path that is itself short enough for an address leaves too little room for a longer name beside it.
fn bind_in_folder(fd: &OwnedFd, path: &Path, name: &str) -> Result<(), Errno> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;

    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    rustix::net::bind(fd, &SocketAddrUnix::new(short)?)
}

/// A socket's file, unlinked on drop if it still is this socket's.
struct UnixFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        let unlink = || -> io::Result<()> {
            let found = fs::symlink_metadata(&self.path)?;
            if (found.dev(), found.ino()) == self.inode {
                fs::remove_file(&self.path)?;
            }
            Ok(())
        };
        match unlink() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                report::log!(warn, path = %self.path.display(), %error, "cannot remove a socket's file");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use proptest::prelude::*;

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
        let mut sockets = Sockets::new(false);
        sockets.begin(WorkerId(0), A);
        sockets.begin(WorkerId(1), B);
        sockets
    }

    /// A listener for `worker`, on its next shared port.
    fn any(sockets: &mut Sockets, worker: WorkerId) -> TcpListener {
        tcp(sockets
            .listen(worker, &localhost().to_string(), &[localhost()])
            .unwrap())
    }

    fn on(sockets: &mut Sockets, worker: WorkerId, address: SocketAddr) -> io::Result<TcpListener> {
        sockets
            .listen(worker, &address.to_string(), &[address])
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

    #[test]
    fn the_nth_port_zero_is_the_same_port_for_all_workers() {
        let mut sockets = table();
        let first = [
            any(&mut sockets, WorkerId(0)),
            any(&mut sockets, WorkerId(1)),
        ]
        .map(|l| l.local_addr().unwrap());
        let second = [
            any(&mut sockets, WorkerId(1)),
            any(&mut sockets, WorkerId(0)),
        ]
        .map(|l| l.local_addr().unwrap());
        assert_eq!(first[0], first[1]);
        assert_eq!(second[0], second[1]);
        assert_ne!(first[0], second[0]);

        sockets.ended(WorkerId(0));
        sockets.begin(WorkerId(2), A);
        assert_eq!(
            any(&mut sockets, WorkerId(2)).local_addr().unwrap(),
            first[0],
            "a successor counts from the start"
        );
    }

    #[test]
    fn connections_spread_over_the_slots() {
        let mut sockets = table();
        let (a, b) = (
            any(&mut sockets, WorkerId(0)),
            any(&mut sockets, WorkerId(1)),
        );
        let _clients = connect(a.local_addr().unwrap(), 200);
        let (a, b) = (waiting(&a), waiting(&b));
        assert_eq!(a + b, 200);
        assert!(a > 40 && b > 40, "{a} and {b}");
    }

    #[test]
    fn the_same_address_again_is_a_clone() {
        let mut sockets = table();
        let one = any(&mut sockets, WorkerId(0));
        let address = one.local_addr().unwrap();
        let two = on(&mut sockets, WorkerId(0), address).unwrap();
        let _client = connect(address, 1);
        assert_eq!(waiting(&two), 1);
        assert_eq!(waiting(&one), 0);
    }

    #[test]
    fn a_crash_leaves_the_backlog_to_the_successor() {
        let mut sockets = table();
        let dead = any(&mut sockets, WorkerId(0));
        let address = dead.local_addr().unwrap();
        let clients = connect(address, 10);
        drop(dead);
        sockets.ended(WorkerId(0));
        sockets.begin(WorkerId(2), A);
        let successor = any(&mut sockets, WorkerId(2));
        assert_eq!(waiting(&successor), 10);
        drop(clients);
    }

    #[test]
    fn a_second_server_is_refused_and_told_where() {
        let mut sockets = table();
        let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
        any(&mut sockets, WorkerId(1));
        let mut second = table();
        let error = on(&mut second, WorkerId(0), address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot listen on {address}: Address")),
            "{error}"
        );
        assert!(names(&second).is_empty());

        let mut sharing = Sockets::new(true);
        sharing.begin(WorkerId(0), A);
        on(&mut sharing, WorkerId(0), address).unwrap();

        sockets.close(A);
        sockets.close(B);
        sharing.close(A);
        on(&mut second, WorkerId(0), address).unwrap();
    }

    #[test]
    fn a_server_without_reuse_is_in_the_way() {
        let other = TcpListener::bind(localhost()).unwrap();
        let error = on(&mut table(), WorkerId(0), other.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_name_stays_at_the_first_address_that_could_be_bound() {
        let taken = TcpListener::bind(localhost())
            .unwrap()
            .local_addr()
            .unwrap();
        let taken = TcpListener::bind(taken).unwrap();
        let taken = taken.local_addr().unwrap();
        let free = TcpListener::bind(localhost())
            .unwrap()
            .local_addr()
            .unwrap();
        let mut sockets = table();
        let listener = tcp(sockets
            .listen(WorkerId(0), "some.host:1", &[taken, free])
            .unwrap());
        assert_eq!(listener.local_addr().unwrap(), free);
        let again = tcp(sockets.listen(WorkerId(1), "some.host:1", &[]).unwrap());
        assert_eq!(
            again.local_addr().unwrap(),
            free,
            "without resolving it again"
        );

        let error = sockets
            .listen(WorkerId(1), "other.host:1", &[])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot listen on other.host:1: it has no address"
        );
        let error = sockets
            .listen(
                WorkerId(1),
                "other.host:1",
                &["192.0.2.1:1".parse().unwrap()],
            )
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(
            error.to_string().contains("other.host:1: 192.0.2.1:1: "),
            "{error}"
        );
    }

    #[test]
    fn a_parked_slot_gets_no_connection_until_its_successor_asks() {
        let mut sockets = table();
        let (a, b) = (
            any(&mut sockets, WorkerId(0)),
            any(&mut sockets, WorkerId(1)),
        );
        let address = a.local_addr().unwrap();
        drop(a);
        sockets.ended(WorkerId(0));
        sockets.park(A);
        let _clients = connect(address, 50);
        assert_eq!(waiting(&b), 50);

        sockets.begin(WorkerId(2), A);
        let _clients = connect(address, 50);
        assert_eq!(waiting(&b), 50, "a start alone doesn't count");
        let a = any(&mut sockets, WorkerId(2));
        assert_eq!(a.local_addr().unwrap(), address);
        let _clients = connect(address, 200);
        let (a, b) = (waiting(&a), waiting(&b));
        assert_eq!(a + b, 200);
        assert!(a > 40, "{a}");
    }

    #[test]
    fn the_last_listening_slot_is_parked_only_when_a_sibling_serves_again() {
        let mut sockets = table();
        let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
        any(&mut sockets, WorkerId(1));
        sockets.ended(WorkerId(0));
        sockets.park(A);
        sockets.ended(WorkerId(1));
        sockets.park(B);
        let waits = connect(address, 10);

        sockets.begin(WorkerId(2), A);
        let a = any(&mut sockets, WorkerId(2));
        assert_eq!(waiting(&a), 0);
        sockets.ready(WorkerId(2));
        for mut client in waits {
            assert!(
                client.read(&mut [0]).is_err(),
                "reset rather than left waiting for B"
            );
        }
        let _clients = connect(address, 10);
        assert_eq!(waiting(&a), 10);
    }

    #[test]
    fn a_worker_that_leaves_does_not_keep_its_slot_from_being_parked() {
        for parked_before in [true, false] {
            let mut sockets = table();
            let (a, b) = (
                any(&mut sockets, WorkerId(0)),
                any(&mut sockets, WorkerId(1)),
            );
            // Its successor is ready, it is told to stop, and the successor dies.
            sockets.begin(WorkerId(2), A);
            let successor = any(&mut sockets, WorkerId(2));
            sockets.ready(WorkerId(2));
            if parked_before {
                drop(successor);
                sockets.ended(WorkerId(2));
                sockets.park(A);
                sockets.leaving(WorkerId(0));
            } else {
                sockets.leaving(WorkerId(0));
                sockets.park(A);
                let _client = connect(a.local_addr().unwrap(), 100);
                assert!(waiting(&successor) > 0);
                waiting(&b);
                drop(successor);
                sockets.ended(WorkerId(2));
            }
            let _clients = connect(a.local_addr().unwrap(), 50);
            assert_eq!(waiting(&b), 50);
        }
    }

    #[test]
    fn a_slot_whose_starting_worker_has_its_socket_is_not_parked() {
        let mut sockets = table();
        let (a, b) = (
            any(&mut sockets, WorkerId(0)),
            any(&mut sockets, WorkerId(1)),
        );
        sockets.park(A);
        let _clients = connect(a.local_addr().unwrap(), 100);
        assert!(waiting(&a) > 0);
        drop(b);
    }

    #[test]
    fn what_a_ready_worker_has_not_asked_for_is_closed() {
        let mut sockets = table();
        let kept = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
        let left = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
        sockets.ended(WorkerId(0));
        sockets.begin(WorkerId(2), A);
        any(&mut sockets, WorkerId(2));
        sockets.ready(WorkerId(2));
        assert_eq!(names(&sockets), [kept.to_string()]);
        assert!(TcpStream::connect(left).is_err());
    }

    #[test]
    fn a_closed_port_ends_with_the_workers_own_drop() {
        let mut sockets = table();
        let listener = any(&mut sockets, WorkerId(0));
        let address = listener.local_addr().unwrap();
        sockets.close(A);
        TcpStream::connect(address).unwrap();
        drop(listener);
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let error = on(&mut sockets, WorkerId(0), address).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {address}: the worker is stopping")
        );
    }

    #[test]
    fn unlisten_closes_a_port_unless_the_slots_other_worker_has_it() {
        let mut sockets = table();
        let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
        sockets.begin(WorkerId(2), A);
        assert!(
            !sockets.unlisten(WorkerId(2), &address.to_string()),
            "it has not asked for it yet"
        );
        any(&mut sockets, WorkerId(2));
        assert!(sockets.unlisten(WorkerId(0), &localhost().to_string()));
        assert!(
            !sockets.unlisten(WorkerId(0), &localhost().to_string()),
            "it has given it back"
        );
        TcpStream::connect(address).unwrap();
        assert!(sockets.unlisten(WorkerId(2), &address.to_string()));
        assert!(TcpStream::connect(address).is_err());
        assert!(!sockets.unlisten(WorkerId(2), "no address"));
    }

    #[test]
    fn an_extra_shares_no_address_with_the_workers() {
        let mut sockets = table();
        let address = any(&mut sockets, WorkerId(0)).local_addr().unwrap();
        sockets.begin(WorkerId(9), Role::Extra(0));
        assert_ne!(
            any(&mut sockets, WorkerId(9)).local_addr().unwrap(),
            address
        );
        let error = on(&mut sockets, WorkerId(9), address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn udp_sockets_share_a_port_and_a_vacant_slot_has_none() {
        let mut sockets = table();
        let mut open = |worker| {
            UdpSocket::from(
                sockets
                    .bind_udp(worker, &localhost().to_string(), &[localhost()])
                    .unwrap(),
            )
        };
        let (a, b) = (open(WorkerId(0)), open(WorkerId(1)));
        let address = a.local_addr().unwrap();
        assert_eq!(b.local_addr().unwrap(), address);
        assert!(UdpSocket::bind(address).is_err());
        drop(a);
        sockets.ended(WorkerId(0));
        sockets.park(A);
        for _ in 0..50 {
            UdpSocket::bind(localhost())
                .unwrap()
                .send_to(b"x", address)
                .unwrap();
        }
        let received = std::iter::from_fn(|| b.recv(&mut [0]).ok()).count();
        assert_eq!(received, 50);
    }

    #[test]
    fn ipv6_is_left_as_the_system_has_it() {
        let mut sockets = table();
        let Ok(fd) = sockets.listen(WorkerId(0), "[::]:0", &["[::]:0".parse().unwrap()]) else {
            return; // no IPv6 here
        };
        let fresh = TcpListener::bind("[::]:0").unwrap();
        assert_eq!(
            rustix::net::sockopt::ipv6_v6only(&fd).unwrap(),
            rustix::net::sockopt::ipv6_v6only(&fresh).unwrap()
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Start(usize),
        Listen(usize),
        Unlisten(usize),
        Ready(usize),
        Leave(usize),
        End(usize),
        Park(usize),
        Close(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = || 0..3_usize;
        prop_oneof![
            at().prop_map(Step::Start),
            at().prop_map(Step::Listen),
            at().prop_map(Step::Listen),
            at().prop_map(Step::Unlisten),
            at().prop_map(Step::Ready),
            at().prop_map(Step::Leave),
            at().prop_map(Step::End),
            at().prop_map(Step::Park),
            at().prop_map(Step::Close),
        ]
    }

    proptest! {
        /// The steps name a slot, or the living worker at that place.
        #[test]
        fn whatever_happens_living_workers_listen(
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut sockets = Sockets::new(false);
            let mut workers: Vec<(WorkerId, Role, Vec<TcpListener>)> = Vec::new();
            let text = localhost().to_string();
            for (worker, step) in (0..).map(WorkerId).zip(steps) {
                let count = workers.len();
                match step {
                    Step::Start(slot) => {
                        sockets.begin(worker, Role::Slot(slot));
                        workers.push((worker, Role::Slot(slot), Vec::new()));
                    }
                    Step::Park(slot) => sockets.park(Role::Slot(slot)),
                    Step::Close(slot) => {
                        sockets.close(Role::Slot(slot));
                        workers.retain(|(_, of, _)| *of != Role::Slot(slot));
                    }
                    _ if count == 0 => {}
                    Step::Listen(at) => {
                        let (worker, _, has) = &mut workers[at % count];
                        has.push(tcp(sockets.listen(*worker, &text, &[localhost()]).unwrap()));
                    }
                    Step::Unlisten(at) => {
                        let (worker, _, has) = &mut workers[at % count];
                        let found = sockets.unlisten(*worker, &text);
                        prop_assert!(!found || !has.is_empty());
                        has.clear();
                    }
                    Step::Ready(at) => sockets.ready(workers[at % count].0),
                    // And is never heard of again.
                    Step::Leave(at) => {
                        let (worker, ..) = workers.remove(at % count);
                        sockets.leaving(worker);
                    }
                    Step::End(at) => {
                        let (worker, ..) = workers.remove(at % count);
                        sockets.ended(worker);
                    }
                }
                for shared in sockets.names.values() {
                    prop_assert!(shared.slots.values().any(|socket| !socket.parked));
                }
                for listener in workers.iter().flat_map(|(_, _, has)| has) {
                    // Would be EINVAL on a parked one.
                    waiting(listener);
                    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                }
            }
        }
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
    fn a_unix_socket_is_shared_private_and_unlinked() {
        let folder = Folder::new("shared");
        let path = folder.0.join("echo.sock");
        let mut sockets = table();
        let a = UnixListener::from(sockets.listen_unix(WorkerId(0), &path, 0o600).unwrap());
        let b = UnixListener::from(sockets.listen_unix(WorkerId(1), &path, 0o600).unwrap());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(&folder.0).unwrap().count(),
            1,
            "no temporary name is left"
        );

        let mut client = UnixStream::connect(&path).unwrap();
        drop(a);
        sockets.close(A);
        let (mut accepted, _) = b.accept().unwrap();
        client.write_all(b"x").unwrap();
        accepted.read_exact(&mut [0]).unwrap();

        let mut second = table();
        let error = second.listen_unix(WorkerId(0), &path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("echo.sock"), "{error}");

        assert!(sockets.unlisten(WorkerId(1), path.to_str().unwrap()));
        assert!(!path.exists());
    }

    #[test]
    fn a_unix_socket_may_have_the_longest_path_there_is() {
        let folder = Folder::new("long");
        let length = 107 - folder.0.as_os_str().len() - "//s".len();
        let deep = folder.0.join("x".repeat(length));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("s");
        assert_eq!(path.as_os_str().len(), 107);
        let mut sockets = table();
        let listener = UnixListener::from(sockets.listen_unix(WorkerId(0), &path, 0o600).unwrap());
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        drop(sockets);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_one_of_another_left() {
        let folder = Folder::new("stale");
        let path = folder.0.join("echo.sock");
        drop(UnixListener::bind(&path).unwrap());
        let mut sockets = table();
        let listener = sockets.listen_unix(WorkerId(0), &path, 0o666).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o666
        );
        UnixStream::connect(&path).unwrap();

        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(listener);
        drop(sockets);
        assert!(path.exists());
        drop(other);

        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        let error = table().listen_unix(WorkerId(0), &path, 0o600).unwrap_err();
        assert!(
            error.to_string().ends_with("what is there is not a socket"),
            "{error}"
        );
    }

    #[test]
    fn sockets_are_not_inherited_and_do_not_block() {
        let folder = Folder::new("flags");
        let mut sockets = table();
        let fds = [
            sockets.listen(WorkerId(0), "a:0", &[localhost()]).unwrap(),
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
}
