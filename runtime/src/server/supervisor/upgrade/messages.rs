//! What a supervisor and its successor say to each other.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::server::line::Role;
use crate::server::line::wire::Bytes;
#[cfg(feature = "monitor")]
use crate::server::supervisor::entrances::Entrances;
use crate::server::supervisor::sockets::{Estate, Handed, Inherited, Kind, Name, Pinned};

/// From the one that is replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToSuccessor {
    /// A role's socket, which comes along.
    Socket(SocketOf),
    /// One that a service manager has passed, which comes along.
    Passed {
        called: String,
        place: Place,
        only_v6: bool,
        taken: bool,
    },
    Pin(Pin),
    /// Where those come in who look into the server, by the listener that comes along: the door of this path and inode, or
    /// health checks of this address.
    Entrance {
        door: bool,
        at: Bytes,
        inode: Option<u64>,
    },
    /// The last of what is handed over.
    All {
        /// How often the service manager's watchdog wants to be fed.
        watchdog: Option<Duration>,
        /// How many workers there are, if that was changed.
        workers: Option<usize>,
    },
    /// The successor serves from now on.
    Released,
}

/// From the successor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToPredecessor {
    /// Always the first.
    Hello { pid: u32 },
    /// Something has failed.
    Failing(String),
    /// All of its workers and extras are ready.
    Ready,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SocketOf {
    pub(super) place: Place,
    pub(super) holder: Holder,
    pub(super) only_v6: bool,
    pub(super) inherited: bool,
    pub(super) shared: bool,
    pub(super) given: bool,
    pub(super) listening: bool,
    /// Device and inode of a Unix socket's file.
    pub(super) file: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub(super) extra: Option<String>,
    pub(super) udp: bool,
    pub(super) all: bool,
    pub(super) text: String,
    pub(super) nth: usize,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(Bytes),
    Abstract(Bytes),
}

/// A role, as another version of the program knows it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Holder {
    Worker(usize),
    /// By its name.
    Extra(String),
}

/// The extras of a server by their names, as it knows them.
pub(crate) struct Roles {
    extras: Vec<String>,
}

impl Roles {
    pub(crate) fn new(extras: impl IntoIterator<Item = String>) -> Roles {
        Roles {
            extras: extras.into_iter().collect(),
        }
    }

    fn name(&self, extra: usize) -> String {
        self.extras.get(extra).cloned().unwrap_or_default()
    }

    fn holder(&self, role: Role) -> Holder {
        match role {
            Role::Slot(slot) => Holder::Worker(slot),
            Role::Extra(extra) => Holder::Extra(self.name(extra)),
        }
    }

    /// One of a name that this version doesn't have gets a number that no other one has.
    fn extra(&mut self, name: &str) -> usize {
        let known = self.extras.iter().position(|extra| extra == name);
        known.unwrap_or_else(|| {
            self.extras.push(name.to_owned());
            self.extras.len() - 1
        })
    }

    fn role(&mut self, holder: &Holder) -> Role {
        match holder {
            Holder::Worker(slot) => Role::Slot(*slot),
            Holder::Extra(name) => Role::Extra(self.extra(name)),
        }
    }
}

impl From<Name> for Place {
    fn from(name: Name) -> Place {
        match name {
            Name::Inet(Kind::Tcp, address) => Place::Tcp(address),
            Name::Inet(Kind::Udp, address) => Place::Udp(address),
            Name::Unix(path) => Place::Unix(Bytes(path.as_os_str().as_bytes().to_vec())),
            Name::Abstract(name) => Place::Abstract(Bytes(name)),
        }
    }
}

impl From<Place> for Name {
    fn from(place: Place) -> Name {
        match place {
            Place::Tcp(address) => Name::Inet(Kind::Tcp, address),
            Place::Udp(address) => Name::Inet(Kind::Udp, address),
            Place::Unix(path) => Name::Unix(OsString::from_vec(path.0).into()),
            Place::Abstract(name) => Name::Abstract(name.0),
        }
    }
}

/// What is said of all that is handed over.
pub(crate) fn messages(
    estate: Estate<OwnedFd>,
    roles: &Roles,
) -> Vec<(ToSuccessor, Option<OwnedFd>)> {
    let sockets = estate.sockets.into_iter().map(|handed| {
        let message = ToSuccessor::Socket(SocketOf {
            place: handed.name.into(),
            holder: roles.holder(handed.role),
            only_v6: handed.only_v6,
            inherited: handed.inherited,
            shared: handed.shared,
            given: handed.given,
            listening: handed.listening,
            file: handed.file,
        });
        (message, Some(handed.socket))
    });
    let passed = estate.inherited.into_iter().map(|it| {
        let message = ToSuccessor::Passed {
            called: it.called,
            place: it.name.into(),
            only_v6: it.only_v6,
            taken: it.taken,
        };
        (message, Some(it.socket))
    });
    let pins = estate.pins.into_iter().map(|pinned| {
        let message = ToSuccessor::Pin(Pin {
            extra: pinned.extra.map(|extra| roles.name(extra)),
            udp: pinned.kind == Kind::Udp,
            all: pinned.all,
            text: pinned.text,
            nth: pinned.nth,
            addresses: pinned.addresses,
        });
        (message, None)
    });
    sockets.chain(passed).chain(pins).collect()
}

/// As [`messages`], of where those come in who look into the server.
#[cfg(feature = "monitor")]
pub(crate) fn by_entrances(
    entrances: Entrances,
) -> impl Iterator<Item = (ToSuccessor, Option<OwnedFd>)> {
    let door = entrances.door.map(|door| (true, door));
    let health = entrances.health.map(|health| (false, health));
    door.into_iter().chain(health).map(|(door, entrance)| {
        let message = ToSuccessor::Entrance {
            door,
            at: Bytes(entrance.at.into_os_string().into_vec()),
            inode: entrance.inode,
        };
        (message, Some(entrance.socket))
    })
}

impl SocketOf {
    pub(super) fn with(self, socket: OwnedFd, roles: &mut Roles) -> Handed<OwnedFd> {
        Handed {
            role: roles.role(&self.holder),
            name: self.place.into(),
            only_v6: self.only_v6,
            inherited: self.inherited,
            shared: self.shared,
            given: self.given,
            listening: self.listening,
            file: self.file,
            socket,
        }
    }
}

impl Pin {
    pub(super) fn pinned(self, roles: &mut Roles) -> Pinned {
        Pinned {
            extra: self.extra.map(|name| roles.extra(&name)),
            kind: if self.udp { Kind::Udp } else { Kind::Tcp },
            all: self.all,
            text: self.text,
            nth: self.nth,
            addresses: self.addresses,
        }
    }
}

/// One that was passed, with its socket.
pub(super) fn passed(
    called: String,
    place: Place,
    only_v6: bool,
    taken: bool,
    socket: OwnedFd,
) -> std::io::Result<Inherited<OwnedFd>> {
    Ok(Inherited {
        called,
        name: place.into(),
        only_v6,
        identity: rustix::fs::fstat(&socket)?.st_ino,
        socket,
        taken,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extras_are_known_by_their_names() {
        let old = Roles::new(["router".to_owned(), "metrics".to_owned()]);
        let mut new = Roles::new(["metrics".to_owned()]);
        let mut as_new = |role| new.role(&old.holder(role));
        assert_eq!(as_new(Role::Extra(1)), Role::Extra(0));
        assert_eq!(as_new(Role::Slot(1)), Role::Slot(1));
        assert_eq!(as_new(Role::Extra(0)), Role::Extra(1), "nobody's");
        assert_eq!(as_new(Role::Extra(0)), Role::Extra(1), "and the same again");
    }

    #[test]
    fn places_stay_what_they_are() {
        let at = "[::1]:80".parse().unwrap();
        for name in [
            Name::Inet(Kind::Tcp, at),
            Name::Inet(Kind::Udp, at),
            Name::Unix("/run/a.sock".into()),
            Name::Abstract(b"a\0b".to_vec()),
        ] {
            assert_eq!(Name::from(Place::from(name.clone())), name);
        }
    }
}
