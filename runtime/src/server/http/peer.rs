//! Who is at the other end of a connection.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::net::{TcpStream, UnixStream, unix};

/// The client of a connection: in the extensions of each of its requests.
///
/// ```
/// use aioxide::http::Peer;
///
/// fn greeting<B>(request: &hyper::Request<B>) -> String {
///     match request.extensions().get::<Peer>() {
///         Some(peer) => format!("hello, {peer}"),
///         None => "hello, whoever you are".to_owned(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// Connected by TCP, from this address. Behind a proxy it is the proxy's.
    Tcp(SocketAddr),
    /// Connected to a Unix socket, from one that is bound to this path. Most clients' are bound to none.
    Unix(Option<PathBuf>),
}

impl Peer {
    /// The client's address, if it has connected by TCP.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Peer::Tcp(address) => Some(*address),
            Peer::Unix(_) => None,
        }
    }

    /// The client's IP address, if it has connected by TCP.
    pub fn ip(&self) -> Option<IpAddr> {
        self.addr().map(|address| address.ip())
    }

    /// From what a listener gives as the address.
    pub(super) fn of_address(address: &dyn Any) -> Option<Peer> {
        let inet = address.downcast_ref::<SocketAddr>().copied();
        inet.map(Peer::Tcp).or_else(|| {
            let unix = address.downcast_ref::<unix::SocketAddr>()?;
            Some(unix.clone().into())
        })
    }

    /// Of a stream that can tell.
    pub(super) fn of_stream(stream: &dyn Any) -> Option<Peer> {
        if let Some(stream) = stream.downcast_ref::<TcpStream>() {
            return stream.peer_addr().ok().map(Peer::Tcp);
        }
        let stream = stream.downcast_ref::<UnixStream>()?;
        stream.peer_addr().ok().map(Peer::from)
    }
}

/// The address, or the path of the client's Unix socket, or `unix`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => fmt::Display::fmt(address, f),
            Peer::Unix(Some(path)) => fmt::Display::fmt(&path.display(), f),
            Peer::Unix(None) => f.pad("unix"),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Tcp(address)
    }
}

impl From<unix::SocketAddr> for Peer {
    fn from(address: unix::SocketAddr) -> Peer {
        Peer::Unix(address.as_pathname().map(Path::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_tells_who_is_at_its_other_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (stream, address) = accepted.unwrap();
        let peer = Peer::from(client.unwrap().local_addr().unwrap());
        assert_eq!(Peer::of_stream(&stream), Some(peer.clone()));
        assert_eq!(Peer::of_address(&address), Some(peer.clone()));
        assert_eq!(peer.to_string(), address.to_string());
        assert_eq!(peer.ip(), Some(address.ip()));

        let (stream, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of_stream(&stream).unwrap();
        assert_eq!((peer.to_string().as_str(), peer.addr()), ("unix", None));
        let (stream, _other) = tokio::io::duplex(1);
        assert_eq!(Peer::of_stream(&stream), None);
    }
}
