//! Connections that the accept loops of different threads hand to each other.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::net::Listener;

use super::shared::Shared;
use crate::server::balance::{Connection, Member, Place};

/// One accept loop, among those that share their connections.
pub(super) struct Handing<L: Listener> {
    member: Member,
    send: fn(L::Io, L::Addr) -> io::Result<Connection>,
    receive: fn(Connection) -> io::Result<(L::Io, L::Addr)>,
    full: bool,
}

impl<L: Listener + 'static> Handing<L>
where
    L::Io: 'static,
    L::Addr: 'static,
{
    /// For tokio's listeners, of a worker whose connections are balanced: streams of other kinds may belong to their thread.
    pub(super) fn new(worker: &Shared, listener: &L) -> Option<Handing<L>> {
        let balanced = worker.balanced.as_ref()?;
        let listener = listener as &dyn Any;
        if let Some(listener) = listener.downcast_ref::<TcpListener>() {
            return Some(Handing {
                member: balanced.join(Place::Tcp(listener.local_addr().ok()?)),
                send: |stream, address| {
                    let stream: TcpStream = cast(stream)?;
                    Ok(Connection::Tcp(stream.into_std()?, cast(address)?))
                },
                receive: |connection| match connection {
                    Connection::Tcp(stream, address) => {
                        Ok((cast(TcpStream::from_std(stream)?)?, cast(address)?))
                    }
                    Connection::Unix(..) => Err(io::ErrorKind::InvalidInput.into()),
                },
                full: false,
            });
        }
        let listener = listener.downcast_ref::<UnixListener>()?;
        let inode = rustix::fs::fstat(listener.as_fd()).ok()?.st_ino;
        Some(Handing {
            member: balanced.join(Place::Unix(inode)),
            send: |stream, address| {
                let stream: UnixStream = cast(stream)?;
                Ok(Connection::Unix(stream.into_std()?, cast(address)?))
            },
            receive: |connection| match connection {
                Connection::Unix(stream, address) => {
                    Ok((cast(UnixStream::from_std(stream)?)?, cast(address)?))
                }
                Connection::Tcp(..) => Err(io::ErrorKind::InvalidInput.into()),
            },
            full: false,
        })
    }

    /// Hands over a connection that was accepted, unless it is to be handled here.
    pub(super) fn accepted(
        &self,
        stream: L::Io,
        address: L::Addr,
    ) -> io::Result<Option<(L::Io, L::Addr)>> {
        let Some(to) = self.member.accepted() else {
            return Ok(Some((stream, address)));
        };
        let connection = (self.send)(stream, address).inspect_err(|_| self.member.lost(to))?;
        let back = self.member.hand(to, connection);
        back.map(self.receive).transpose()
    }

    /// The next connection that another one has accepted for this. Cancel-safe.
    pub(super) async fn handed(&self) -> io::Result<(L::Io, L::Addr)> {
        let connection = poll_fn(|cx| self.member.poll_take(cx)).await;
        (self.receive)(connection).inspect_err(|_| self.member.closed())
    }

    /// Whether this one may have no more connections open.
    pub(super) fn full(&mut self, full: bool) {
        if self.full != full {
            self.full = full;
            self.member.full(full);
        }
    }

    /// One of those that are handled here is closed.
    pub(super) fn closed(&self) {
        self.member.closed();
    }

    /// Takes part no more. What nobody else takes comes back.
    pub(super) fn leave(self) -> impl Iterator<Item = io::Result<(L::Io, L::Addr)>> {
        let back = self.member.leave();
        back.into_iter().map(self.receive)
    }
}

/// A value as what it is known to be.
pub(super) fn cast<A: 'static, B: 'static>(value: A) -> io::Result<B> {
    let mut value = Some(value);
    let value = (&mut value as &mut dyn Any).downcast_mut::<Option<B>>();
    value
        .and_then(Option::take)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
