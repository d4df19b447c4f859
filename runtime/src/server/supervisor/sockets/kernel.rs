//! The system calls on listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::calls::listen;
use super::name::Kind;
use super::system::System;
use super::{inet, unix};

/// The system that this process runs on.
pub(crate) struct Kernel;

impl System for Kernel {
    type Socket = OwnedFd;
    type File = unix::SocketFile;

    const BALANCES: bool = inet::BALANCES;

    fn open_inet(
        &mut self,
        kind: Kind,
        address: SocketAddr,
        shared: bool,
    ) -> io::Result<(u16, OwnedFd)> {
        inet::open(kind, address, shared)
    }

    fn open_unix(&mut self, path: &Path, mode: u32) -> io::Result<(OwnedFd, unix::SocketFile)> {
        unix::open(path, mode)
    }

    fn duplicate(&mut self, socket: &OwnedFd) -> io::Result<OwnedFd> {
        socket.try_clone()
    }

    fn park(&mut self, socket: &OwnedFd) -> io::Result<()> {
        Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Read)?)
    }

    fn resume(&mut self, socket: &OwnedFd) -> io::Result<()> {
        listen(socket)
    }
}
