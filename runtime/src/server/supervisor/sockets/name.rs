//! What a listening socket is called.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Tcp,
    Udp,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Inet(Kind, SocketAddr),
    /// By its absolute path.
    Unix(PathBuf),
    /// A Unix socket without a file, written `@name`.
    Abstract(Vec<u8>),
}

impl Name {
    /// The Unix socket that is written so.
    pub(super) fn unix(path: &Path) -> Name {
        match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => Name::Abstract(name.to_owned()),
            None => Name::Unix(path.to_owned()),
        }
    }

    /// The address of a TCP or UDP socket.
    pub(super) fn inet(&self) -> Option<(Kind, SocketAddr)> {
        match self {
            Name::Inet(kind, address) => Some((*kind, *address)),
            Name::Unix(_) | Name::Abstract(_) => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Inet(Kind::Tcp, address) => write!(f, "{address}"),
            Name::Inet(Kind::Udp, address) => write!(f, "{address} (udp)"),
            Name::Unix(path) => write!(f, "{}", path.display()),
            Name::Abstract(name) => {
                write!(f, "@{}", OsString::from_vec(name.clone()).to_string_lossy())
            }
        }
    }
}

pub(super) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}
