//! The socket on which systemd is told.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};

pub(super) struct NotifySocket {
    socket: UnixDatagram,
    /// Where systemd listens. Not connected to: it may be made anew while the server runs.
    address: SocketAddrUnix,
}

impl NotifySocket {
    /// To a path, or to the abstract name `@name`.
    pub(super) fn new(name: &OsStr) -> io::Result<NotifySocket> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => of_abstract(name)?,
            [b'/', ..] => SocketAddrUnix::new(name.as_bytes())?,
            _ => {
                let text = format!(
                    "NOTIFY_SOCKET is `{}`; allowed is an absolute path, or `@` and a name",
                    name.to_string_lossy()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(NotifySocket { socket, address })
    }

    /// Sends a datagram, at once or not at all. A descriptor may come along.
    pub(super) fn send(&self, text: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|descriptor| [descriptor]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let (text, flags) = (IoSlice::new(text), SendFlags::NOSIGNAL);
        rustix::net::sendmsg_addr(&self.socket, &self.address, &[text], &mut control, flags)?;
        Ok(())
    }
}

/// Whether a datagram found no room, and will soon.
pub(super) fn is_full(error: &io::Error) -> bool {
    use rustix::io::Errno;

    matches!(
        Errno::from_io_error(error),
        Some(Errno::AGAIN | Errno::NOBUFS)
    )
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn of_abstract(name: &[u8]) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn of_abstract(_: &[u8]) -> io::Result<SocketAddrUnix> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "only Linux has abstract names of sockets",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_send_blocks_and_a_full_queue_is_known() {
        let path = std::env::temp_dir().join(format!("aioxide-notify-{}", std::process::id()));
        let there = UnixDatagram::bind(&path).unwrap();
        let socket = NotifySocket::new(path.as_os_str()).unwrap();
        let full = loop {
            if let Err(error) = socket.send(b"READY=1", None) {
                break error;
            }
        };
        assert!(is_full(&full), "{full}");
        let mut buffer = [0; 16];
        assert_eq!(there.recv(&mut buffer).unwrap(), 7);
        socket.send(b"READY=1", None).unwrap();
        drop(there);
        std::fs::remove_file(&path).unwrap();
        assert!(!is_full(&socket.send(b"READY=1", None).unwrap_err()));
    }

    #[test]
    fn other_addresses_are_refused_and_named() {
        for name in ["relative", "vsock:2:1234", ""] {
            let error = NotifySocket::new(OsStr::new(name)).map(drop).unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }
}
