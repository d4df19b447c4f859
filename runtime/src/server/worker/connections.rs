//! The connections that a worker handles, for those who look into a running server.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::server::line::Connection;

/// How many connections are listed.
const LISTED: usize = 40_000;

/// The connections of a worker that somebody may look into.
#[derive(Default)]
pub(super) struct Connections(Mutex<Table>);

#[derive(Default)]
struct Table {
    accepted: u64,
    open: BTreeMap<u64, (Option<SocketAddr>, Instant)>,
}

/// One that is being handled, until dropped.
pub(super) struct Handled {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Handled {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
    }
}

impl Connections {
    /// One from `peer` is handled from now on.
    pub(super) fn handle<A: 'static>(self: &Arc<Connections>, peer: &A) -> Handled {
        let mut table = self.lock();
        table.accepted += 1;
        let number = table.accepted;
        let peer = (peer as &dyn Any).downcast_ref::<SocketAddr>().copied();
        table.open.insert(number, (peer, Instant::now()));
        Handled {
            connections: Arc::clone(self),
            number,
        }
    }

    /// How many were accepted, and how many of them are open.
    pub(super) fn counts(&self) -> (u64, u64) {
        let table = self.lock();
        (table.accepted, table.open.len() as u64)
    }

    /// Those that are open, the oldest first.
    pub(super) fn list(&self) -> Vec<Connection> {
        let table = self.lock();
        let open = table.open.values().map(|(peer, since)| Connection {
            peer: peer.map(|peer| peer.to_string()),
            age: since.elapsed().as_secs_f64(),
        });
        open.take(LISTED).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_it_is_dropped() {
        let connections = Arc::new(Connections::default());
        let peer: SocketAddr = "127.0.0.1:4".parse().unwrap();
        let first = connections.handle(&peer);
        let second = connections.handle(&"of another kind");
        assert_eq!(connections.counts(), (2, 2));
        assert_eq!(connections.list()[0].peer.as_deref(), Some("127.0.0.1:4"));
        assert_eq!(connections.list()[1].peer, None);
        drop(first);
        assert_eq!(
            (connections.counts(), connections.list().len()),
            ((2, 1), 1)
        );
        drop(second);
        assert_eq!(connections.counts(), (2, 0));
    }
}
