//! Opens TCP and UDP sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::calls::{BALANCES, listen, socket};
use super::name::Kind;
use super::system::How;

/// Unless it is shared, nobody else may have the address. A TCP socket has to listen for that, since two sockets that
/// merely are bound don't collide under `SO_REUSEADDR`.
pub(super) fn open(kind: Kind, mut address: SocketAddr, how: How) -> io::Result<(u16, OwnedFd)> {
    let mut fd = bind(kind, address, how)?;
    let chosen = address.port() == 0;
    if chosen {
        let local: SocketAddr = rustix::net::getsockname(&fd)?.try_into()?;
        address.set_port(local.port());
    }
    if kind == Kind::Tcp {
        if chosen && BALANCES {
            // Parking loses a port that the kernel chose, but not one that was asked for.
            fd = bind(kind, address, how)?;
        }
        if how.listening {
            listen(&fd)?;
        }
    }
    Ok((address.port(), fd))
}

fn bind(kind: Kind, address: SocketAddr, how: How) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let opened = match kind {
        Kind::Tcp => socket(family, SocketType::STREAM),
        Kind::Udp => socket(family, SocketType::DGRAM),
    };
    let fd = opened.map_err(|error| match Errno::from_io_error(&error) {
        // A machine without IPv6 has none of its addresses.
        Some(Errno::AFNOSUPPORT) => io::Error::new(io::ErrorKind::AddrNotAvailable, error),
        _ => error,
    })?;
    if kind == Kind::Tcp {
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    if how.shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    if how.only_v6 && address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}
