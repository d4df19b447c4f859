//! What an accept loop accepts from: its own listener, and what is lent to it.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::net::Listener;

use super::handing::cast;
use super::shared::Shared;
use crate::server::line::{Loan, Message};
use crate::server::report;

/// The listeners of one accept loop.
pub(super) struct Listeners<L> {
    /// The first is its own, the others have the numbers of their loans.
    listeners: Vec<(Option<u64>, L)>,
    /// Who is asked first, so that a busy one doesn't keep the others waiting.
    next: usize,
    /// Its own, while others accept in their turn.
    resting: Option<OwnedFd>,
    borrowing: Option<Borrowing<L>>,
}

/// How many connections a turn has: so few that connections that last are spread well.
const TURN: u32 = 4;

/// How loans come, if the listener is of a kind that the supervisor can lend.
struct Borrowing<L> {
    worker: Arc<Shared>,
    serving: u64,
    told: mpsc::UnboundedReceiver<Loan>,
    make: fn(OwnedFd) -> io::Result<L>,
    /// A descriptor of the listener, so that it can be made again.
    copy: fn(&L) -> io::Result<OwnedFd>,
    /// How many connections are left of its turn, if others take theirs.
    turn: Option<u32>,
}

impl<L: Listener + 'static> Listeners<L> {
    pub(super) fn new(worker: &Arc<Shared>, listener: L) -> Listeners<L> {
        let borrowing = Borrowing::for_listener(worker, &listener);
        Listeners {
            listeners: vec![(None, listener)],
            next: 0,
            resting: None,
            borrowing,
        }
    }

    /// Where they accept, as far as that can be told.
    #[cfg(feature = "monitor")]
    pub(super) fn name(&self) -> String
    where
        L::Addr: 'static,
    {
        let own = self.listeners.first();
        let address = own.and_then(|(_, listener)| listener.local_addr().ok());
        let address = address.as_ref().map(|address| address as &dyn Any);
        let inet = address.and_then(|address| address.downcast_ref::<std::net::SocketAddr>());
        let unix =
            address.and_then(|address| address.downcast_ref::<tokio::net::unix::SocketAddr>());
        let path = unix.and_then(|address| address.as_pathname());
        match (inet, path) {
            (Some(address), _) => address.to_string(),
            (None, Some(path)) => path.display().to_string(),
            (None, None) => "connection".to_owned(),
        }
    }

    /// The next connection of any of them. Cancel-safe.
    pub(super) async fn accept(&mut self) -> io::Result<(L::Io, L::Addr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Tells that this accept loop may have no more connections open, or may again.
    pub(super) fn full(&self, full: bool) {
        if let Some(Borrowing {
            worker, serving, ..
        }) = &self.borrowing
        {
            let serving = *serving;
            worker.line.say(Message::Full { serving, full });
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(L::Io, L::Addr)>> {
        self.poll_loans(cx);
        for _ in 0..self.listeners.len() {
            let now = self.next;
            self.next = (now + 1) % self.listeners.len();
            let accepted = self.listeners[now].1.poll_accept(cx);
            if accepted.is_ready() {
                if let Some(borrowing) = &mut self.borrowing {
                    borrowing.accepted();
                }
                return accepted;
            }
        }
        Poll::Pending
    }

    fn poll_loans(&mut self, cx: &mut Context<'_>) {
        let Some(borrowing) = &mut self.borrowing else {
            return;
        };
        while let Poll::Ready(Some(loan)) = borrowing.told.poll_recv(cx) {
            match loan {
                Loan::Lent { id, socket } => match (borrowing.make)(socket) {
                    Ok(listener) => self.listeners.push((Some(id), listener)),
                    Err(error) => {
                        let identity = &borrowing.worker.identity;
                        report::log!(warn, worker = identity.index, role = identity.role(), %error, "cannot accept in the place of another worker");
                    }
                },
                Loan::Rest(true) => {
                    borrowing.turn = None;
                    let own = self.listeners.iter().position(|(loan, _)| loan.is_none());
                    let Some(own) = own else { continue };
                    // Else it accepts on, which is no harm.
                    if let Ok(copy) = (borrowing.copy)(&self.listeners[own].1) {
                        self.resting = Some(copy);
                        self.listeners.remove(own);
                        self.next = 0;
                    }
                }
                Loan::Rest(false) => {
                    borrowing.turn = Some(TURN);
                    let Some(own) = self.resting.take() else {
                        continue;
                    };
                    match (borrowing.make)(own) {
                        Ok(listener) => self.listeners.push((None, listener)),
                        Err(error) => {
                            let identity = &borrowing.worker.identity;
                            report::log!(error, worker = identity.index, role = identity.role(), %error, "cannot accept from a Unix socket any more");
                        }
                    }
                }
                Loan::TakenBack { id } => {
                    self.listeners.retain(|(loan, _)| *loan != Some(id));
                    self.next = 0;
                }
            }
        }
    }
}

impl<L: 'static> Borrowing<L> {
    /// Of tokio's listeners. A TCP socket may be lent; a Unix socket all workers have. Of other listeners nothing is known.
    fn for_listener(worker: &Arc<Shared>, listener: &L) -> Option<Borrowing<L>> {
        let listener = listener as &dyn Any;
        if let Some(listener) = listener.downcast_ref::<TcpListener>() {
            let socket = inode(listener)?;
            let (serving, told) = worker.told.loans.register();
            worker.line.say(Message::Accepts { serving, socket });
            return Some(Borrowing {
                worker: Arc::clone(worker),
                serving,
                told,
                make: |socket| cast(TcpListener::from_std(socket.into())?),
                copy: copy::<L, TcpListener>,
                turn: None,
            });
        }
        let socket = inode(listener.downcast_ref::<UnixListener>()?)?;
        let (serving, told) = worker.told.loans.register();
        worker.line.say(Message::TakesTurns { serving, socket });
        Some(Borrowing {
            worker: Arc::clone(worker),
            serving,
            told,
            make: |socket| cast(UnixListener::from_std(socket.into())?),
            copy: copy::<L, UnixListener>,
            turn: None,
        })
    }

    /// One more connection.
    fn accepted(&mut self) {
        if let Some(left) = &mut self.turn {
            *left -= 1;
            if *left == 0 {
                // It goes on until it is told to rest.
                self.turn = None;
                let serving = self.serving;
                self.worker.line.say(Message::TurnOver { serving });
            }
        }
    }
}

fn inode(listener: &impl AsFd) -> Option<u64> {
    Some(rustix::fs::fstat(listener).ok()?.st_ino)
}

fn copy<L: 'static, K: AsFd + 'static>(listener: &L) -> io::Result<OwnedFd> {
    let listener = (listener as &dyn Any).downcast_ref::<K>();
    let listener = listener.ok_or(io::ErrorKind::InvalidInput)?;
    listener.as_fd().try_clone_to_owned()
}

impl<L> Drop for Borrowing<L> {
    fn drop(&mut self) {
        let serving = self.serving;
        self.worker.told.loans.forget(serving);
        self.worker.line.say(Message::AcceptsNoMore { serving });
    }
}
