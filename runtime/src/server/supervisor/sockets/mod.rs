//! The server's listening sockets.

mod table;

pub(super) use table::Sockets;
