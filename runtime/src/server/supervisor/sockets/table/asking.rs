//! What workers ask for: opened when the first of them does, and kept.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::state::{Asked, Claim, Held, Inherited, Shared, Table, group_of};
use crate::server::line::Role;
use crate::server::report;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Kind, Name, with_port};
use crate::server::supervisor::sockets::system::{How, Opened, System};

/// How many ports are tried for a name of several addresses, of which a port may be free on one and not on another.
const PORTS: usize = 32;

impl<S: System> Table<S> {
    /// A TCP listener for the address written `text`. With `all`, every one of `addresses` is bound: the listener is
    /// that of the first, and the further ones begin to listen when an [accept loop](Self::accepts) takes them.
    /// Otherwise it is bound to the first of them that can be.
    ///
    /// What `text` was bound to first stays its address; a worker that couldn't resolve it this time may
    /// leave `addresses` empty.
    pub(crate) fn listen(
        &mut self,
        worker: WorkerId,
        text: &str,
        addresses: &[SocketAddr],
        all: bool,
    ) -> io::Result<S::Socket> {
        self.inet(worker, Kind::Tcp, text, addresses, all)
            .map_err(|error| cannot("listen on", text, &error))
    }

    /// A UDP socket, on the first of `addresses` that can be bound; otherwise as [`listen`](Self::listen).
    pub(crate) fn bind_udp(
        &mut self,
        worker: WorkerId,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<S::Socket> {
        self.inet(worker, Kind::Udp, text, addresses, false)
            .map_err(|error| cannot("bind", text, &error))
    }

    /// A listener on a Unix socket, which all slots share. `path` is absolute, or an abstract name written `@name`.
    /// `mode` counts where the socket is opened.
    pub(crate) fn listen_unix(
        &mut self,
        worker: WorkerId,
        path: &Path,
        mode: u32,
    ) -> io::Result<S::Socket> {
        self.unix(worker, &Name::unix(path), mode)
            .map_err(|error| cannot("listen on", path.display(), &error))
    }

    pub(super) fn unix(
        &mut self,
        worker: WorkerId,
        name: &Name,
        mode: u32,
    ) -> io::Result<S::Socket> {
        let how = How {
            shared: false,
            only_v6: false,
            listening: true,
            mode,
        };
        let slot = self.slot_of(worker)?;
        let (slot, name) = self.hold(worker, slot, name, how)?;
        self.give(slot, &name)
    }

    /// Closes what `worker` has asked for as `text`, an absolute path or an address as asked or as bound, unless
    /// another worker of its slot has it too. False if it has nothing of that name.
    pub(crate) fn unlisten(&mut self, worker: WorkerId, text: &str) -> bool {
        let Some(&Claim { slot, .. }) = self.workers.get(&worker) else {
            return false;
        };
        let literal: Option<SocketAddr> = text.parse().ok();
        let path = Name::unix(Path::new(text));
        let mut found = false;
        let mut closed = Vec::new();
        for (name, shared) in &mut self.names {
            let meant = match name.inet() {
                None => {
                    let named = |it: &Inherited<S::Socket>| it.called == text && it.name == *name;
                    *name == path || self.inherited.iter().any(named)
                }
                Some((kind, at)) => {
                    let pinned = |(asked, to): (&Asked, &Vec<SocketAddr>)| {
                        asked.group == group_of(slot)
                            && asked.kind == kind
                            && asked.text == text
                            && to.contains(&at)
                    };
                    literal == Some(at) || self.pins.iter().any(pinned)
                }
            };
            let Some(held) = shared.slots.get_mut(&slot).filter(|_| meant) else {
                continue;
            };
            if held.workers.remove(&worker) {
                found = true;
                if held.workers.is_empty() {
                    closed.extend(shared.slots.remove(&slot));
                }
            }
        }
        self.take_back_all(closed);
        self.settle();
        found
    }

    fn slot_of(&self, worker: WorkerId) -> io::Result<Role> {
        match self.workers.get(&worker) {
            Some(claim) if !claim.closed => Ok(claim.slot),
            _ => Err(io::Error::other("the worker is stopping")),
        }
    }

    pub(super) fn inet(
        &mut self,
        worker: WorkerId,
        kind: Kind,
        text: &str,
        addresses: &[SocketAddr],
        all: bool,
    ) -> io::Result<S::Socket> {
        let slot = self.slot_of(worker)?;
        let ephemeral = text.ends_with(":0") || addresses.iter().any(|address| address.port() == 0);
        let count = (kind, all, text.to_owned());
        let nth = match self.workers.get(&worker) {
            Some(claim) if ephemeral => claim.ephemeral.get(&count).copied().unwrap_or(0),
            _ => 0,
        };
        let asked = Asked {
            group: group_of(slot),
            kind,
            all,
            text: text.to_owned(),
            nth,
        };
        let addresses = match self.pins.get(&asked) {
            Some(pinned) => pinned.clone(),
            None => distinct(addresses),
        };
        let bound = match all {
            true => self.hold_all(worker, slot, kind, text, &addresses)?,
            false => vec![self.hold_first(worker, slot, kind, text, &addresses)?],
        };
        let given = self.give(slot, &Name::Inet(kind, bound[0]))?;
        self.pins.insert(asked, bound);
        if let Some(claim) = self.workers.get_mut(&worker) {
            claim.ephemeral.insert(count, nth + 1);
        }
        self.lend_and_take_back();
        Ok(given)
    }

    fn hold_first(
        &mut self,
        worker: WorkerId,
        slot: Role,
        kind: Kind,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<SocketAddr> {
        let mut failure = no_address();
        for &address in addresses {
            match self.hold_inet(worker, slot, kind, address, true, false) {
                Ok(bound) => return Ok(bound),
                Err(error) => failure = about(address, text, error),
            }
        }
        Err(failure)
    }

    /// The addresses that are bound now: all of them but those that this machine doesn't have.
    fn hold_all(
        &mut self,
        worker: WorkerId,
        slot: Role,
        kind: Kind,
        text: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<Vec<SocketAddr>> {
        let beside_v4 = addresses.iter().any(SocketAddr::is_ipv4);
        let mut attempt = 1;
        loop {
            let mut bound: Vec<SocketAddr> = Vec::new();
            let mut failure = no_address();
            let mut again = false;
            for &address in addresses {
                let chosen = bound.first().filter(|_| address.port() == 0);
                let at = chosen.map_or(address, |first| with_port(address, first.port()));
                let name = Name::Inet(kind, at);
                // Not the port of another name, even if it is ours.
                let held = match chosen.is_some() && self.names.contains_key(&name) {
                    true => Err(io::ErrorKind::AddrInUse.into()),
                    false => self.hold_inet(worker, slot, kind, at, bound.is_empty(), beside_v4),
                };
                match held {
                    Ok(address) => bound.push(address),
                    Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                        report::log!(
                            warn,
                            "{text} stands for {address} too, which this machine doesn't have: {error}"
                        );
                        failure = about(address, text, error);
                    }
                    Err(error) => {
                        again = chosen.is_some()
                            && error.kind() == io::ErrorKind::AddrInUse
                            && attempt < PORTS;
                        failure = about(address, text, error);
                        self.let_go(worker, slot, kind, &bound);
                        bound.clear();
                        break;
                    }
                }
            }
            if again {
                attempt += 1;
            } else if bound.is_empty() {
                return Err(failure);
            } else {
                return Ok(bound);
            }
        }
    }

    /// Closes what was opened for nothing.
    fn let_go(&mut self, worker: WorkerId, slot: Role, kind: Kind, addresses: &[SocketAddr]) {
        for address in addresses {
            let Some(shared) = self.names.get_mut(&Name::Inet(kind, *address)) else {
                continue;
            };
            if let Some(held) = shared.slots.get_mut(&slot) {
                held.workers.remove(&worker);
                if held.workers.is_empty() && held.loan.is_none() {
                    shared.slots.remove(&slot);
                }
            }
        }
        self.settle();
    }

    fn hold_inet(
        &mut self,
        worker: WorkerId,
        slot: Role,
        kind: Kind,
        address: SocketAddr,
        listening: bool,
        beside_v4: bool,
    ) -> io::Result<SocketAddr> {
        let address = self.bound_instead(kind, address);
        let mut shared = self.share_port;
        let mut only_v6 = beside_v4;
        for (name, other) in &mut self.names {
            let Some((of, at)) = name.inet().filter(|(_, at)| at.port() == address.port()) else {
                continue;
            };
            if of != kind || address.port() == 0 {
                continue;
            }
            if at.is_ipv4() && address.is_ipv6() {
                only_v6 = true;
            }
            // It was there first and takes IPv4 too. The kernel prefers the socket that is nothing but IPv4.
            if at.is_ipv6() && at.ip().is_unspecified() && address.is_ipv4() && !other.only_v6 {
                other.share(&mut self.system)?;
                shared = true;
            }
            // Whoever asked for that before may still serve there, and is another version of this very server.
            if other.handed && at != address && is_in_the_way(at, address) {
                other.share(&mut self.system)?;
                shared = true;
            }
        }
        let how = How {
            shared,
            only_v6: only_v6 && address.is_ipv6(),
            listening,
            mode: 0,
        };
        let (_, name) = self.hold(worker, slot, &Name::Inet(kind, address), how)?;
        Ok(name.inet().map_or(address, |(_, bound)| bound))
    }

    /// Sees to it that the slot has a socket of that name, which may have port 0, and gives its name.
    fn hold(
        &mut self,
        worker: WorkerId,
        slot: Role,
        name: &Name,
        mut how: How,
    ) -> io::Result<(Role, Name)> {
        let inherited = self.inherited_for(slot, name);
        let mut sibling = None;
        if let Some(shared) = self.names.get_mut(name) {
            shared.adopt(slot);
            if shared.group != group_of(slot) {
                let error = "another part of this server listens there";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, error));
            }
            if let Some(held) = shared.slots.get_mut(&slot).filter(|held| !held.outdated) {
                held.workers.insert(worker);
                self.unasked.remove(&held.identity);
                return Ok((slot, name.clone()));
            }
            // Successors of the first have the same share of the connections.
            how.only_v6 = shared.only_v6;
            if inherited.is_some() {
                // Open already, for everybody.
            } else if S::BALANCES && matches!(name, Name::Inet(..)) {
                if !shared.slots.is_empty() {
                    shared.share(&mut self.system)?;
                    how.shared = true;
                }
            } else {
                sibling = shared.slots.values().find(|held| !held.outdated);
            }
        }
        let listening = match sibling {
            _ if inherited.is_some() => true,
            Some(sibling) => sibling.listening,
            None => how.listening,
        };
        let system = &mut self.system;
        let passed = inherited.and_then(|nth| self.inherited.get_mut(nth));
        if let Some(passed) = &passed {
            // Never made one that more can have by what others ask for.
            how.only_v6 = passed.only_v6 || name.inet().is_some_and(|(_, at)| at.is_ipv6());
        }
        let opened = match (passed, sibling) {
            (Some(passed), _) => {
                passed.taken = true;
                Opened {
                    socket: system.duplicate(&passed.socket)?,
                    port: name.inet().map_or(0, |(_, address)| address.port()),
                    file: None,
                }
            }
            (None, Some(sibling)) => Opened {
                socket: system.duplicate(&sibling.socket)?,
                port: name.inet().map_or(0, |(_, address)| address.port()),
                file: None,
            },
            (None, None) => system.open(name, how)?,
        };
        let identity = system.identity(&opened.socket)?;
        self.unasked.remove(&identity);
        let name = match name {
            Name::Inet(kind, address) => Name::Inet(*kind, with_port(*address, opened.port)),
            name => name.clone(),
        };
        let shared = self.names.entry(name.clone()).or_insert_with(|| Shared {
            group: group_of(slot),
            file: None,
            missing: false,
            only_v6: how.only_v6,
            inherited: inherited.is_some(),
            shared: how.shared,
            given: false,
            handed: false,
            slots: Default::default(),
        });
        if opened.file.is_some() {
            shared.file = opened.file;
            shared.missing = false;
        }
        let before = shared.slots.remove(&slot);
        let mut workers = before.map_or_else(Default::default, |held| held.workers);
        workers.insert(worker);
        let held = Held {
            socket: opened.socket,
            identity,
            listening,
            outdated: false,
            workers,
            loan: None,
        };
        shared.slots.insert(slot, held);
        Ok((slot, name))
    }

    fn give(&mut self, slot: Role, name: &Name) -> io::Result<S::Socket> {
        let held = self
            .names
            .get_mut(name)
            .and_then(|shared| {
                shared.given = true;
                shared.slots.get_mut(&slot)
            })
            .ok_or_else(no_address)?;
        held.give(&mut self.system)
    }
}

impl<S: System> Shared<S> {
    /// Lets more than one socket have the address. Not before it is necessary: until then nobody else can.
    pub(super) fn share(&mut self, system: &mut S) -> io::Result<()> {
        if !self.shared {
            for held in self.slots.values() {
                system.share(&held.socket)?;
            }
            self.shared = true;
        }
        Ok(())
    }
}

/// Whether a socket that is bound to one of these keeps others from the other, of the same port.
fn is_in_the_way(one: SocketAddr, other: SocketAddr) -> bool {
    let takes_all = |at: SocketAddr, of: SocketAddr| {
        at.ip().is_unspecified() && (at.is_ipv6() || at.is_ipv4() == of.is_ipv4())
    };
    takes_all(one, other) || takes_all(other, one)
}

fn distinct(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut distinct = Vec::new();
    for address in addresses {
        if !distinct.contains(address) {
            distinct.push(*address);
        }
    }
    distinct
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "it has no address")
}

fn about(address: SocketAddr, text: &str, error: io::Error) -> io::Error {
    match address.to_string() == text {
        true => error,
        false => io::Error::new(error.kind(), format!("{address}: {error}")),
    }
}

pub(super) fn cannot(what: &str, text: impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {text}: {error}"))
}

#[cfg(test)]
mod tests;
