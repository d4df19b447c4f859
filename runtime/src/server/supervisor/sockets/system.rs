//! What the table needs of the system.

use std::io;
use std::path::Path;

use super::name::Name;

/// Opens sockets and changes what they do.
pub(crate) trait System {
    /// An open socket.
    type Socket;
    /// The file of a Unix socket, removed when it is dropped.
    type File;

    /// Whether connections are spread over the sockets of one port. Otherwise all slots share one socket.
    const BALANCES: bool;

    /// Opens a socket of this name. Unless it is [`shared`](How::shared), nobody else may have the name.
    fn open(&mut self, name: &Name, how: How) -> io::Result<Opened<Self>>
    where
        Self: Sized;

    fn duplicate(&mut self, socket: &Self::Socket) -> io::Result<Self::Socket>;

    /// What tells an open socket from all others, its duplicates excepted.
    fn identity(&mut self, socket: &Self::Socket) -> io::Result<u64>;

    /// Lets others of this user bind the socket's address too.
    fn share(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Begins to listen, or begins again.
    fn listen(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Stops listening, and resets what waits. The address stays the socket's.
    fn park(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Whether there still is something under the file's name.
    fn is_in_place(&mut self, file: &Self::File) -> bool;

    /// What tells the file from another one of its name.
    fn file_identity(&mut self, file: &Self::File) -> (u64, u64);

    /// The file of a socket that another process has made, and removes.
    fn file_of_another(&mut self, path: &Path, identity: (u64, u64)) -> Self::File;

    /// Whether this process is to remove the file.
    fn own(&mut self, file: &mut Self::File, own: bool);
}

/// How a socket is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Others of this user may bind the address too.
    pub(super) shared: bool,
    /// An IPv6 socket leaves IPv4 alone.
    pub(super) only_v6: bool,
    /// A TCP socket listens at once. A Unix socket always does.
    pub(super) listening: bool,
    /// The permissions of a Unix socket's file.
    pub(super) mode: u32,
}

/// A socket that has been opened.
pub(crate) struct Opened<S: System> {
    pub(super) socket: S::Socket,
    /// What port 0 has become.
    pub(super) port: u16,
    pub(super) file: Option<S::File>,
}
