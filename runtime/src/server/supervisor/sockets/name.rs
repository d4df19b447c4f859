//! What a listening socket is called.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Tcp,
    Udp,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Inet(Kind, SocketAddr),
    Unix(PathBuf),
}

impl Name {
    pub(super) fn port(&self) -> u16 {
        match self {
            Name::Inet(_, address) => address.port(),
            Name::Unix(_) => 0,
        }
    }

    pub(super) fn with_port(&self, port: u16) -> Name {
        match self {
            Name::Inet(kind, address) => Name::Inet(*kind, with_port(*address, port)),
            Name::Unix(path) => Name::Unix(path.clone()),
        }
    }
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

pub(super) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}
