//! What the table needs of the system.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::name::Kind;

/// Opens sockets and changes what they do.
pub(crate) trait System {
    /// An open socket.
    type Socket;
    /// The file of a Unix socket, removed when it is dropped.
    type File;

    /// Whether connections are spread over the sockets of one port, in which case they can be parked.
    const BALANCES: bool;

    /// An open socket on `address`, and its port. Unless `shared`, nobody else may have the address.
    fn open_inet(
        &mut self,
        kind: Kind,
        address: SocketAddr,
        shared: bool,
    ) -> io::Result<(u16, Self::Socket)>;

    /// A listening socket that has `mode` from the moment at which its path can be found.
    fn open_unix(&mut self, path: &Path, mode: u32) -> io::Result<(Self::Socket, Self::File)>;

    fn duplicate(&mut self, socket: &Self::Socket) -> io::Result<Self::Socket>;

    /// Stops listening, and resets what waits. The address stays the socket's.
    fn park(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Listens again.
    fn resume(&mut self, socket: &Self::Socket) -> io::Result<()>;
}
