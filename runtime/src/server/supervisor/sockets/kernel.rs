//! The system calls on listening sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::name::Name;
use super::system::{How, Opened, System};
use super::{calls, inet, unix};

/// The system that this process runs on.
pub(crate) struct Kernel;

impl System for Kernel {
    type Socket = OwnedFd;
    type File = unix::SocketFile;

    const BALANCES: bool = calls::BALANCES;

    fn open(&mut self, name: &Name, how: How) -> io::Result<Opened<Kernel>> {
        let (port, socket, file) = match name {
            Name::Inet(kind, address) => {
                let (port, socket) = inet::open(*kind, *address, how)?;
                (port, socket, None)
            }
            Name::Unix(path) => {
                let (socket, file) = unix::open(path, how.mode)?;
                (0, socket, Some(file))
            }
            Name::Abstract(name) => (0, unix::open_abstract(name)?, None),
        };
        Ok(Opened { socket, port, file })
    }

    fn duplicate(&mut self, socket: &OwnedFd) -> io::Result<OwnedFd> {
        socket.try_clone()
    }

    fn identity(&mut self, socket: &OwnedFd) -> io::Result<u64> {
        Ok(rustix::fs::fstat(socket)?.st_ino)
    }

    fn share(&mut self, socket: &OwnedFd) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_reuseport(socket, true)?)
    }

    fn listen(&mut self, socket: &OwnedFd) -> io::Result<()> {
        calls::listen(socket)
    }

    fn park(&mut self, socket: &OwnedFd) -> io::Result<()> {
        Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Read)?)
    }

    fn is_in_place(&mut self, file: &unix::SocketFile) -> bool {
        file.is_in_place()
    }

    fn file_identity(&mut self, file: &unix::SocketFile) -> (u64, u64) {
        file.inode()
    }

    fn file_of_another(&mut self, path: &Path, inode: (u64, u64)) -> unix::SocketFile {
        unix::SocketFile::of_another(path, inode)
    }

    fn own(&mut self, file: &mut unix::SocketFile, own: bool) {
        file.own(own);
    }
}
