//! Takes the sockets that systemd passes: those of socket units, and those that it has kept for us.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketType, sockopt};

use super::kernel::Kernel;
use super::name::{Kind, Name, kept_for};
use super::received::Received;
use super::table::{Inherited, Kept};
use super::unix::SocketFile;
use crate::server::line::Role;
use crate::server::report;

/// The identity of no socket.
const NOBODYS: u64 = 0;

/// What a socket is called that was passed without a name.
const UNNAMED: &str = "unknown";

/// All sockets that were passed to this process. What else was passed is closed, as far as that can be.
pub(super) fn received() -> Received {
    let mut received = Received::default();
    // The crate takes them also where nobody says whose they are.
    if !are_for(env::var("LISTEN_PID").ok().as_deref(), std::process::id()) {
        return received;
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut descriptors = ListenFd::from_env();
    for nth in 0..descriptors.len() {
        let called = names.next().filter(|name| !name.is_empty());
        let called = called.unwrap_or(UNNAMED);
        let taken = take(&mut descriptors, nth);
        match kept_for(called) {
            Some((role, name)) => {
                let kept = taken.and_then(|socket| kept(role, name, socket));
                // Out of the store it goes by its name alone.
                let identity = kept.as_ref().map_or(NOBODYS, |kept| kept.identity);
                received.in_store.insert(called.to_owned(), identity);
                received.kept.extend(kept.ok());
            }
            None => match taken.and_then(|socket| about(called, socket)) {
                Ok(socket) => received.passed.push(socket),
                Err(error) => {
                    report::log!(warn, %error, "the socket `{called}`, which systemd has passed, can't be used: {error}");
                }
            },
        }
    }
    received
}

fn are_for(pid: Option<&str>, own: u32) -> bool {
    pid.and_then(|pid| pid.parse().ok()) == Some(own)
}

/// Non-blocking, and closed in other programs.
fn take(descriptors: &mut ListenFd, nth: usize) -> io::Result<OwnedFd> {
    if let Ok(Some(listener)) = descriptors.take_tcp_listener(nth) {
        listener.set_nonblocking(true)?;
        return Ok(listener.into());
    }
    if let Ok(Some(socket)) = descriptors.take_udp_socket(nth) {
        socket.set_nonblocking(true)?;
        return Ok(socket.into());
    }
    match descriptors.take_unix_listener(nth) {
        Ok(Some(listener)) => {
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        }
        Ok(None) => Err(io::ErrorKind::NotFound.into()),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it isn't a TCP, UDP or Unix stream socket",
        )),
    }
}

fn about(called: &str, socket: OwnedFd) -> io::Result<Inherited<OwnedFd>> {
    let bound = Bound::of(&socket)?;
    if bound.is_stream && !sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it doesn't listen; write `Accept=no`",
        ));
    }
    Ok(Inherited {
        called: called.to_owned(),
        name: bound.name,
        only_v6: bound.only_v6,
        identity: bound.identity,
        socket,
        taken: false,
    })
}

/// One of ours, as it was when the server that had it was killed: it may be parked.
fn kept(role: Role, name: Name, socket: OwnedFd) -> io::Result<Kept<Kernel>> {
    let bound = Bound::of(&socket)?;
    let file = match &name {
        // Without it nobody can connect.
        Name::Unix(path) => Some(SocketFile::found(path)?),
        Name::Inet(..) | Name::Abstract(_) => None,
    };
    Ok(Kept {
        role,
        only_v6: bound.only_v6,
        shared: sockopt::socket_reuseport(&socket)?,
        listening: !bound.is_stream || sockopt::socket_acceptconn(&socket)?,
        identity: bound.identity,
        name,
        socket,
        file,
    })
}

/// Where a socket is bound, and how.
struct Bound {
    name: Name,
    is_stream: bool,
    only_v6: bool,
    identity: u64,
}

impl Bound {
    fn of(socket: &OwnedFd) -> io::Result<Bound> {
        let is_stream = sockopt::socket_type(socket)? == SocketType::STREAM;
        let address = rustix::net::getsockname(socket)?;
        let is_v6 = address.address_family() == AddressFamily::INET6;
        Ok(Bound {
            name: name(address, is_stream)?,
            is_stream,
            only_v6: is_v6 && sockopt::ipv6_v6only(socket)?,
            identity: rustix::fs::fstat(socket)?.st_ino,
        })
    }
}

fn name(address: SocketAddrAny, is_stream: bool) -> io::Result<Name> {
    if address.address_family() == AddressFamily::UNIX {
        return of_unix(&SocketAddrUnix::try_from(address)?);
    }
    let kind = if is_stream { Kind::Tcp } else { Kind::Udp };
    Ok(Name::Inet(kind, SocketAddr::try_from(address)?))
}

fn of_unix(address: &SocketAddrUnix) -> io::Result<Name> {
    if let Some(name) = address.abstract_name() {
        return Ok(Name::Abstract(name.to_owned()));
    }
    let path = address
        .path()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
    Ok(Name::Unix(PathBuf::from(OsStr::from_bytes(
        path.to_bytes(),
    ))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_another_process_are_not_taken() {
        assert!(are_for(Some("7"), 7));
        for pid in [None, Some(""), Some("8"), Some("seven")] {
            assert!(!are_for(pid, 7), "{pid:?}");
        }
    }

    #[test]
    fn a_socket_is_known_by_where_it_is_bound() {
        let folder = std::env::temp_dir().join(format!("aioxide-passed-{}", std::process::id()));
        let unix = std::os::unix::net::UnixListener::bind(&folder).unwrap();
        let found = about("unix", unix.into()).unwrap();
        assert_eq!(found.name, Name::Unix(folder.clone()));
        std::fs::remove_file(folder).unwrap();

        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let found = about("http", tcp.into()).unwrap();
        assert_eq!(
            (found.called.as_str(), found.name),
            ("http", Name::Inet(Kind::Tcp, address))
        );

        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        assert_eq!(
            about("", udp.into()).unwrap().name,
            Name::Inet(Kind::Udp, address)
        );

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = about("connection", connection.into())
            .map(drop)
            .unwrap_err();
        assert!(error.to_string().contains("Accept=no"), "{error}");
    }
}
