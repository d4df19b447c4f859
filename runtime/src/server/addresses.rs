//! Where a server listens.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Index;
use std::path::{Path, PathBuf};

/// Where a server listens, by what its workers and extras asked for: from
/// [`Running::addresses`](super::Running::addresses), and for [`on_ready`](super::Server::on_ready).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aioxide::NotReady> {
/// use aioxide::{Server, Worker};
///
/// let server = Server::new(async |worker: Worker| {
///     let listener = worker.listen("127.0.0.1:0").await?;
///     let serving = worker.serve(listener, async |stream| drop(stream));
///     let stop = worker.ready().await;
///     serving.drain(&stop).await;
///     Ok::<_, std::io::Error>(())
/// });
/// let running = server.workers(2).start();
/// running.ready().await?;
/// let addresses = running.addresses();
/// assert_ne!(addresses["127.0.0.1:0"].port(), 0);
/// assert_eq!(addresses.get("127.0.0.1:80"), None);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Those of workers before those of extras, TCP before UDP, and of one text in the order of the requests.
    inet: Vec<(String, SocketAddr)>,
    unix: Vec<PathBuf>,
}

impl Addresses {
    pub(crate) fn new(
        inet: impl IntoIterator<Item = (String, SocketAddr)>,
        unix: impl IntoIterator<Item = PathBuf>,
    ) -> Addresses {
        Addresses {
            inet: inet.into_iter().collect(),
            unix: unix.into_iter().collect(),
        }
    }

    /// The first address that is bound for what was `asked` for, written as it was passed to
    /// [`Worker::listen`](super::Worker::listen) or [`bind_udp`](super::Worker::bind_udp): `127.0.0.1:0`,
    /// `localhost:80`.
    ///
    /// What was not passed as text is found by its `Debug` form: `("127.0.0.1", 0)`.
    pub fn get(&self, asked: &str) -> Option<SocketAddr> {
        self.all(asked).next()
    }

    /// Every address that is bound for what was `asked` for: one for each port 0 that a worker asked for.
    pub fn all<'a>(&'a self, asked: &'a str) -> impl Iterator<Item = SocketAddr> + 'a {
        let meant = self.inet.iter().filter(move |(text, _)| text == asked);
        meant.map(|(_, address)| *address)
    }

    /// What was asked for, and the address that is bound for it. Those of workers come first, TCP before UDP.
    pub fn iter(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.inet.iter().map(|(text, at)| (text.as_str(), *at))
    }

    /// The paths of Unix sockets.
    pub fn unix(&self) -> impl Iterator<Item = &Path> {
        self.unix.iter().map(PathBuf::as_path)
    }
}

/// [`get`](Addresses::get), for tests.
///
/// # Panics
///
/// When nothing was asked for by this text; the message lists what was.
impl Index<&str> for Addresses {
    type Output = SocketAddr;

    fn index(&self, asked: &str) -> &SocketAddr {
        let found = self.inet.iter().find(|(text, _)| text == asked);
        match found {
            Some((_, address)) => address,
            None => panic!("no address was asked for as `{asked}`; there are: {self}"),
        }
    }
}

/// `127.0.0.1:0 (127.0.0.1:40123), /run/echo.sock`
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (text, address) in &self.inet {
            write!(f, "{separator}{text}")?;
            if address.to_string() != *text {
                write!(f, " ({address})")?;
            }
            separator = ", ";
        }
        for path in &self.unix {
            write!(f, "{separator}{}", path.display())?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let inet = [
            ("localhost:0", "127.0.0.1:4001"),
            ("localhost:0", "127.0.0.1:4002"),
            ("127.0.0.1:80", "127.0.0.1:80"),
        ];
        let inet = inet.map(|(text, at)| (text.to_owned(), at.parse().unwrap()));
        Addresses::new(inet, ["/run/echo".into()])
    }

    #[test]
    fn an_address_is_found_by_what_was_asked_for() {
        let addresses = addresses();
        assert_eq!(addresses["localhost:0"].port(), 4001);
        assert_eq!(addresses.get("localhost:0").unwrap().port(), 4001);
        let ports = addresses.all("localhost:0").map(|at| at.port());
        assert_eq!(ports.collect::<Vec<_>>(), [4001, 4002]);
        assert_eq!(addresses.get("localhost"), None);
        assert_eq!(addresses.iter().count(), 3);
        assert_eq!(addresses.unix().next(), Some(Path::new("/run/echo")));
        assert_eq!(
            addresses.to_string(),
            "localhost:0 (127.0.0.1:4001), localhost:0 (127.0.0.1:4002), 127.0.0.1:80, /run/echo"
        );
    }

    #[test]
    #[should_panic = "no address was asked for as `localhost`; there are: localhost:0 (127.0.0.1:4001)"]
    fn what_nobody_asked_for_has_no_address() {
        let _ = addresses()["localhost"];
    }
}
