//! What a listening socket is called.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::server::line::Role;

/// What the names of our sockets begin with in systemd's store, which has other descriptors of the program too.
const KEPT: &str = "aioxide-";

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

/// What a role's socket is called in systemd's store.
pub(super) fn kept_as(role: Role, name: &Name) -> String {
    let slot = match role {
        Role::Slot(index) => index.to_string(),
        Role::Extra(index) => format!("extra{index}"),
    };
    let (kind, address) = match name {
        Name::Inet(Kind::Tcp, address) => ("tcp", address.to_string().into_bytes()),
        Name::Inet(Kind::Udp, address) => ("udp", address.to_string().into_bytes()),
        Name::Unix(path) => ("unix", path.as_os_str().as_bytes().to_owned()),
        Name::Abstract(name) => ("unix", [b"@", name.as_slice()].concat()),
    };
    let hex: String = address.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{KEPT}{slot}-{kind}-{hex}")
}

/// The role whose socket is called so there, and the socket's name, if it is one of ours. A Unix socket itself doesn't know
/// where it was linked to.
pub(super) fn kept_for(called: &str) -> Option<(Role, Name)> {
    let (slot, rest) = called.strip_prefix(KEPT)?.split_once('-')?;
    let (kind, hex) = rest.split_once('-')?;
    let role = match slot.strip_prefix("extra") {
        Some(index) => Role::Extra(index.parse().ok()?),
        None => Role::Slot(slot.parse().ok()?),
    };
    let address = bytes_of(hex)?;
    let inet = |kind| {
        let text = std::str::from_utf8(&address).ok()?;
        Some(Name::Inet(kind, text.parse().ok()?))
    };
    let name = match kind {
        "tcp" => inet(Kind::Tcp)?,
        "udp" => inet(Kind::Udp)?,
        "unix" => Name::unix(Path::new(OsStr::from_bytes(&address))),
        _ => return None,
    };
    Some((role, name))
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(byte).collect()
}
