//! Who holds which listening socket, which are parked, and which addresses a name stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::name::{Kind, Name, with_port};
use super::system::System;
use crate::server::line::Role;
use crate::server::report;
use crate::server::supervisor::policy::WorkerId;

/// Roles that may share an address: the workers with each other, an extra with nobody.
fn group_of(role: Role) -> Option<usize> {
    match role {
        Role::Slot(_) => None,
        Role::Extra(index) => Some(index),
    }
}

/// A group's n-th request for the address that it wrote so. Only requests for port 0 are counted: each
/// gives another port, to all workers the same.
type Asked = (Option<usize>, Kind, String, usize);

/// The table of all listening sockets of a server.
pub(crate) struct Table<S: System> {
    system: S,
    share_port: bool,
    names: BTreeMap<Name, Shared<S>>,
    pins: BTreeMap<Asked, SocketAddr>,
    workers: BTreeMap<WorkerId, Claim>,
    /// Slots whose successor is too long in coming.
    vacant: BTreeSet<Role>,
}

/// What the slots hold of one address.
struct Shared<S: System> {
    group: Option<usize>,
    slots: BTreeMap<Role, Held<S>>,
    /// Unlinked with the last slot's socket.
    _file: Option<S::File>,
}

struct Held<S: System> {
    socket: S::Socket,
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

impl<S: System> Table<S> {
    /// With `share_port`, other processes of the same user may listen on the same addresses.
    pub(crate) fn new(system: S, share_port: bool) -> Table<S> {
        Table {
            system,
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

    /// A TCP listener for the address written `text`, bound to the first of `addresses` that can be.
    ///
    /// What `text` was bound to first stays its address; a worker that couldn't resolve it this time may
    /// leave `addresses` empty.
    pub(crate) fn listen(
        &mut self,
        worker: WorkerId,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<S::Socket> {
        self.inet(worker, Kind::Tcp, text, addresses)
            .map_err(|error| cannot("listen on", text, &error))
    }

    /// A UDP socket; otherwise as [`listen`](Self::listen).
    pub(crate) fn bind_udp(
        &mut self,
        worker: WorkerId,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<S::Socket> {
        self.inet(worker, Kind::Udp, text, addresses)
            .map_err(|error| cannot("bind", text, &error))
    }

    /// A listener on a Unix socket, which all slots share. `mode` counts where the socket is opened.
    pub(crate) fn listen_unix(
        &mut self,
        worker: WorkerId,
        path: &Path,
        mode: u32,
    ) -> io::Result<S::Socket> {
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
    ) -> io::Result<S::Socket> {
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
    ) -> io::Result<(u16, S::Socket)> {
        let port = name.port();
        let mut sibling = None;
        if let Some(shared) = self.names.get_mut(name) {
            if shared.group != group_of(slot) {
                let error = "another part of this server listens there";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, error));
            }
            if let Some(socket) = shared.slots.get_mut(&slot) {
                return Ok((port, socket.give(&mut self.system, worker)?));
            }
            sibling = shared.slots.values().next();
        }
        let system = &mut self.system;
        let (port, socket, file) = match (name, sibling) {
            (Name::Unix(_), Some(sibling)) => (port, system.duplicate(&sibling.socket)?, None),
            (Name::Inet(..), Some(sibling)) if !S::BALANCES => {
                (port, system.duplicate(&sibling.socket)?, None)
            }
            (Name::Inet(kind, address), sibling) => {
                let shared = sibling.is_some() || self.share_port;
                let (port, socket) = system.open_inet(*kind, *address, shared)?;
                (port, socket, None)
            }
            (Name::Unix(path), None) => {
                let (socket, file) = system.open_unix(path, mode)?;
                (port, socket, Some(file))
            }
        };
        let mut held = Held {
            socket,
            parked: false,
            workers: BTreeSet::new(),
        };
        let given = held.give(system, worker)?;
        let shared = self
            .names
            .entry(name.with_port(port))
            .or_insert_with(|| Shared {
                group: group_of(slot),
                slots: BTreeMap::new(),
                _file: file,
            });
        shared.slots.insert(slot, held);
        Ok((port, given))
    }

    fn park_vacant(&mut self) {
        if !S::BALANCES {
            return;
        }
        let claims = &self.workers;
        for (name, shared) in &mut self.names {
            let Name::Inet(kind, _) = name else { continue };
            let is_served = |socket: &Held<S>| !socket.parked && socket.is_held(claims);
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
                        match self.system.park(&socket.socket) {
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
                    if let Err(error) = socket.resume(&mut self.system) {
                        report::log!(warn, %name, %error, "cannot listen again");
                    }
                }
            }
        }
    }
}

impl<S: System> Held<S> {
    /// Whether somebody has it who stays.
    fn is_held(&self, claims: &BTreeMap<WorkerId, Claim>) -> bool {
        let stays = |worker| claims.get(worker).is_some_and(|claim| !claim.leaving);
        self.workers.iter().any(stays)
    }

    /// A clone for `worker`, listening again if it was parked.
    fn give(&mut self, system: &mut S, worker: WorkerId) -> io::Result<S::Socket> {
        let given = system.duplicate(&self.socket)?;
        self.resume(system)?;
        self.workers.insert(worker);
        Ok(given)
    }

    fn resume(&mut self, system: &mut S) -> io::Result<()> {
        if self.parked {
            system.resume(&self.socket)?;
            self.parked = false;
        }
        Ok(())
    }
}

fn cannot(what: &str, text: impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {text}: {error}"))
}
