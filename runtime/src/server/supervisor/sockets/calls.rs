//! What opening a socket takes, whatever its family.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType};

/// Whether the kernel spreads connections over the sockets of one port.
pub(super) const BALANCES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The most connections that may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;

pub(super) fn listen(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::listen(socket, BACKLOG)?)
}

/// Non-blocking, and closed in other programs.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn socket(family: AddressFamily, type_: SocketType) -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;

    Ok(rustix::net::socket_with(
        family,
        type_,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn socket(family: AddressFamily, type_: SocketType) -> io::Result<OwnedFd> {
    let fd = rustix::net::socket(family, type_, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}
