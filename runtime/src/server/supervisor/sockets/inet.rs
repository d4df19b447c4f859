//! Opens TCP and UDP sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, sockopt};

use super::calls::{listen, socket};
use super::name::Kind;

/// Whether the kernel spreads connections over the sockets of one port.
pub(super) const BALANCES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Unless `shared`, nobody else may have the address.
///
/// The probe for that is the first socket itself: bound (for TCP also listening, since two sockets that
/// merely are bound don't collide under `SO_REUSEADDR`) before it gets `SO_REUSEPORT` for its siblings'
/// sake. So there is no moment at which two servers could both find the address free.
pub(super) fn open(
    kind: Kind,
    mut address: SocketAddr,
    shared: bool,
) -> io::Result<(u16, OwnedFd)> {
    let mut fd = bind(kind, address, shared)?;
    let chosen = address.port() == 0;
    if chosen {
        let local: SocketAddr = rustix::net::getsockname(&fd)?.try_into()?;
        address.set_port(local.port());
    }
    if kind == Kind::Tcp {
        if chosen && BALANCES {
            // Parking loses a port that the kernel chose, but not one that was asked for.
            fd = bind(kind, address, shared)?;
        }
        listen(&fd)?;
    }
    if BALANCES && !shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    Ok((address.port(), fd))
}

fn bind(kind: Kind, address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
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
