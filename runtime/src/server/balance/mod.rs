//! Hands connections to the worker that has the fewest, among the threads of one server.

mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use group::Group;

/// What the workers of a server know of each other's connections.
#[derive(Clone, Default)]
pub(crate) struct Balance(Arc<Mutex<Groups>>);

#[derive(Default)]
struct Groups {
    workers: u64,
    members: u64,
    groups: BTreeMap<Place, Group<Connection>>,
    /// Of members that wait for what they are handed.
    wakers: BTreeMap<u64, Waker>,
    blocked: BTreeSet<u64>,
}

/// What is accepted from. Workers at the same place can take each other's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    /// A Unix socket's inode.
    Unix(u64),
}

/// A connection on its way from one thread to another.
pub(crate) enum Connection {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(UnixStream, tokio::net::unix::SocketAddr),
}

/// A worker whose connections are balanced with those of the others.
#[derive(Clone)]
pub(crate) struct Balanced {
    balance: Balance,
    worker: u64,
}

/// An accept loop of such a worker.
pub(crate) struct Member {
    balance: Balance,
    place: Place,
    number: u64,
}

impl Balance {
    /// One more worker.
    pub(crate) fn worker(&self) -> Balanced {
        let mut groups = self.lock();
        let worker = groups.workers;
        groups.workers += 1;
        drop(groups);
        Balanced {
            balance: self.clone(),
            worker,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes those who have something new to take.
    fn change(&self, change: impl FnOnce(&mut Groups) -> Vec<u64>) {
        let mut groups = self.lock();
        let mut woken = change(&mut groups);
        woken.sort_unstable();
        woken.dedup();
        let wakers = woken.iter().filter_map(|number| groups.wakers.get(number));
        let wakers: Vec<Waker> = wakers.cloned().collect();
        drop(groups);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Balanced {
    /// Its event loop doesn't turn, or does again.
    pub(crate) fn blocked(&self, blocked: bool) {
        let worker = self.worker;
        self.balance.change(|groups| {
            match blocked {
                true => _ = groups.blocked.insert(worker),
                false => _ = groups.blocked.remove(&worker),
            }
            let all = groups.groups.values_mut();
            all.flat_map(|group| group.blocked(worker, blocked))
                .collect()
        });
    }

    /// One of its accept loops begins.
    pub(crate) fn join(&self, place: Place) -> Member {
        let mut number = 0;
        self.balance.change(|groups| {
            number = groups.members;
            groups.members += 1;
            let blocked = groups.blocked.contains(&self.worker);
            let group = groups.groups.entry(place).or_default();
            group.join(number, self.worker, blocked)
        });
        Member {
            balance: self.balance.clone(),
            place,
            number,
        }
    }
}

impl Member {
    /// It has accepted a connection: the number of the other one who is to handle that, if it isn't this one itself.
    pub(crate) fn accepted(&self) -> Option<u64> {
        let mut to = self.number;
        self.change(|group| {
            to = group.accepted(self.number);
            Vec::new()
        });
        (to != self.number).then_some(to)
    }

    /// Hands over what it has accepted. It comes back if the other one is gone, and is this one's then.
    pub(crate) fn hand(&self, to: u64, connection: Connection) -> Option<Connection> {
        let mut back = None;
        self.change(|group| {
            group.hand(to, connection).unwrap_or_else(|connection| {
                back = Some(connection);
                group.keep(self.number);
                Vec::new()
            })
        });
        back
    }

    /// What was to be handed to this one is lost.
    pub(crate) fn lost(&self, to: u64) {
        self.change(|group| {
            group.closed(to);
            Vec::new()
        });
    }

    /// What others have accepted for this one.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Connection> {
        let mut groups = self.balance.lock();
        let groups = &mut *groups;
        let group = groups.groups.get_mut(&self.place);
        if let Some(connection) = group.and_then(|group| group.take(self.number)) {
            return Poll::Ready(connection);
        }
        match groups.wakers.get_mut(&self.number) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => _ = groups.wakers.insert(self.number, cx.waker().clone()),
        }
        Poll::Pending
    }

    /// One of its connections is closed.
    pub(crate) fn closed(&self) {
        self.lost(self.number);
    }

    /// It may have no more connections open, or may again.
    pub(crate) fn full(&self, full: bool) {
        self.change(|group| group.full(self.number, full));
    }

    /// It accepts no more. What it has yet to take is given to the others, or comes back if there are none.
    pub(crate) fn leave(&self) -> Vec<Connection> {
        let mut back = Vec::new();
        self.balance.change(|groups| {
            groups.wakers.remove(&self.number);
            let Some(group) = groups.groups.get_mut(&self.place) else {
                return Vec::new();
            };
            let (left, woken) = group.leave(self.number);
            back = left;
            if group.is_empty() {
                groups.groups.remove(&self.place);
            }
            woken
        });
        back
    }

    fn change(&self, change: impl FnOnce(&mut Group<Connection>) -> Vec<u64>) {
        self.balance.change(|groups| {
            let group = groups.groups.get_mut(&self.place);
            group.map(change).unwrap_or_default()
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}
