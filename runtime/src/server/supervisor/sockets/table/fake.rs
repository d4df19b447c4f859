//! A system of which every state can be seen.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use super::{Kept, Order, Table};
use crate::server::line::Role;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Name, with_port};
use crate::server::supervisor::sockets::system::{How, Opened, System};

pub(super) const A: Role = Role::Slot(0);
pub(super) const B: Role = Role::Slot(1);
pub(super) const C: Role = Role::Slot(2);

/// Open until the last of its duplicates is dropped.
pub(super) type Socket = Rc<Open>;

#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) name: Name,
    pub(super) only_v6: bool,
    pub(super) listening: Cell<bool>,
    pub(super) shared: Cell<bool>,
}

/// What is open, what is on disk, and which addresses there are.
#[derive(Default)]
pub(super) struct Fake {
    opened: Vec<Weak<Open>>,
    pub(super) removed: Vec<PathBuf>,
    pub(super) unavailable: Vec<SocketAddr>,
    /// No port of this address can be bound.
    pub(super) failing: Option<(IpAddr, io::ErrorKind)>,
    /// How many sockets were to be opened.
    pub(super) tries: usize,
    /// Those that were taken over.
    pub(super) owned: BTreeSet<PathBuf>,
}

impl Fake {
    /// The file of this one is gone, so its path is free.
    pub(super) fn forget(&mut self, socket: &Socket) {
        self.opened[socket.id as usize] = Weak::new();
    }

    /// What another process has open.
    pub(super) fn open_before(&mut self, other: &Fake) {
        self.opened.clone_from(&other.opened);
    }

    pub(super) fn open_sockets(&self) -> Vec<Socket> {
        self.opened.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Whether an IPv6 socket takes the connections of an IPv4 address too.
fn covers(one: &Name, only_v6: bool, other: &Name) -> bool {
    match (one.inet(), other.inet()) {
        (Some((kind, v6)), Some((of, v4))) => {
            let families = v6.is_ipv6() && v6.ip().is_unspecified() && v4.is_ipv4();
            families && kind == of && v6.port() == v4.port() && !only_v6
        }
        _ => false,
    }
}

impl System for Fake {
    type Socket = Socket;
    type File = PathBuf;

    const BALANCES: bool = true;

    fn open(&mut self, name: &Name, how: How) -> io::Result<Opened<Fake>> {
        let id = self.opened.len() as u64;
        self.tries += 1;
        if let (Some((failing, error)), Some((_, at))) = (self.failing, name.inet()) {
            if at.ip() == failing {
                return Err(error.into());
            }
        }
        let name = match name {
            Name::Inet(_, address) if self.unavailable.contains(address) => {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            Name::Inet(kind, address) if address.port() == 0 => {
                Name::Inet(*kind, with_port(*address, 40_000 + id as u16))
            }
            name => name.clone(),
        };
        let in_the_way = |open: &Socket| {
            let same = open.name == name
                || covers(&open.name, open.only_v6, &name)
                || covers(&name, how.only_v6, &open.name);
            same && !(how.shared && open.shared.get())
        };
        if self.open_sockets().iter().any(in_the_way) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let file = match &name {
            Name::Unix(path) => Some(path.clone()),
            _ => None,
        };
        let socket = Rc::new(Open {
            id,
            only_v6: how.only_v6,
            listening: Cell::new(how.listening),
            shared: Cell::new(how.shared),
            name,
        });
        self.opened.push(Rc::downgrade(&socket));
        let port = socket.name.inet().map_or(0, |(_, address)| address.port());
        Ok(Opened { socket, port, file })
    }

    fn duplicate(&mut self, socket: &Socket) -> io::Result<Socket> {
        Ok(Rc::clone(socket))
    }

    fn identity(&mut self, socket: &Socket) -> io::Result<u64> {
        Ok(socket.id)
    }

    fn share(&mut self, socket: &Socket) -> io::Result<()> {
        socket.shared.set(true);
        Ok(())
    }

    fn listen(&mut self, socket: &Socket) -> io::Result<()> {
        socket.listening.set(true);
        Ok(())
    }

    fn park(&mut self, socket: &Socket) -> io::Result<()> {
        assert!(socket.listening.replace(false), "parked twice");
        Ok(())
    }

    fn is_in_place(&mut self, file: &PathBuf) -> bool {
        !self.removed.contains(file)
    }

    fn file_identity(&mut self, _: &PathBuf) -> (u64, u64) {
        (0, 0)
    }

    fn file_of_another(&mut self, path: &Path, _: (u64, u64)) -> PathBuf {
        path.to_owned()
    }

    fn own(&mut self, file: &mut PathBuf, own: bool) {
        match own {
            true => self.owned.insert(file.clone()),
            false => self.owned.remove(file),
        };
    }
}

/// A table in which workers 0, 1 and 2 have started in the slots A, B and C.
pub(super) fn table() -> Table<Fake> {
    let mut table = Table::new(Fake::default(), false);
    for (number, slot) in (0..).zip([A, B, C]) {
        table.begin(WorkerId(number), slot);
    }
    table
}

/// Listens on the addresses of `text`, one of which the worker gets.
pub(super) fn listen(
    table: &mut Table<Fake>,
    worker: u64,
    text: &str,
    addresses: &[&str],
) -> io::Result<Socket> {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    table.listen(WorkerId(worker), text, &addresses, true)
}

/// Listens, accepts by a loop of ours, and is ready.
pub(super) fn serve(table: &mut Table<Fake>, worker: u64) -> Socket {
    let socket = listen(table, worker, "127.0.0.1:80", &["127.0.0.1:80"]).unwrap();
    table.accepts(WorkerId(worker), 0, socket.id);
    table.ready(WorkerId(worker));
    socket
}

/// What the workers were told: `to worker: id of the socket`, and `from worker`.
pub(super) fn orders(table: &mut Table<Fake>) -> Vec<String> {
    let told = table.take_orders().into_iter().map(|order| match order {
        Order::Lend { to, socket, .. } => format!("to {}: {}", to.0, socket.id),
        Order::TakeBack { from, .. } => format!("from {}", from.0),
    });
    told.collect()
}

/// What was kept for a role of the run before.
pub(super) fn kept_of(system: &mut Fake, role: Role, name: &Name) -> Kept<Fake> {
    let how = How {
        shared: true,
        only_v6: false,
        listening: true,
        mode: 0,
    };
    let opened = system.open(name, how).ok().unwrap();
    Kept {
        role,
        name: name.clone(),
        only_v6: false,
        shared: true,
        listening: true,
        identity: opened.socket.id,
        socket: opened.socket,
        file: opened.file,
    }
}
