//! Sockets that a worker accepts from in the place of others.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

/// What an accept loop is told.
#[derive(Debug)]
pub(crate) enum Loan {
    /// Accept from this socket too.
    Lent { id: u64, socket: OwnedFd },
    /// Let go of what was lent under this number.
    TakenBack { id: u64 },
    /// Leave its own socket to others that have it too, or accept from it in its turn.
    Rest(bool),
}

/// The accept loops of a worker that take loans, by their numbers. Written from any thread.
#[derive(Default)]
pub(crate) struct Loans(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    next: u64,
    serving: BTreeMap<u64, mpsc::UnboundedSender<Loan>>,
}

impl Loans {
    /// A number for an accept loop, and what it will be told.
    pub(crate) fn register(&self) -> (u64, mpsc::UnboundedReceiver<Loan>) {
        let (sender, told) = mpsc::unbounded_channel();
        let mut registered = self.lock();
        let number = registered.next;
        registered.next += 1;
        registered.serving.insert(number, sender);
        (number, told)
    }

    pub(crate) fn forget(&self, serving: u64) {
        self.lock().serving.remove(&serving);
    }

    /// To an accept loop that is gone nothing can be lent: the socket is closed here, and stays the supervisor's.
    pub(crate) fn tell(&self, serving: u64, loan: Loan) {
        if let Some(told) = self.lock().serving.get(&serving) {
            let _ = told.send(loan);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use tokio::sync::mpsc::error::TryRecvError;

    #[test]
    fn an_accept_loop_is_told_what_is_meant_for_it() {
        let loans = Loans::default();
        let (first, mut told_first) = loans.register();
        let (second, mut told_second) = loans.register();
        loans.tell(first, Loan::Rest(true));
        loans.tell(second, Loan::TakenBack { id: 5 });
        loans.tell(first, Loan::Rest(false));
        assert!(matches!(told_first.try_recv(), Ok(Loan::Rest(true))));
        assert!(matches!(told_first.try_recv(), Ok(Loan::Rest(false))));
        assert!(matches!(told_first.try_recv(), Err(TryRecvError::Empty)));
        assert!(matches!(
            told_second.try_recv(),
            Ok(Loan::TakenBack { id: 5 })
        ));
    }

    #[test]
    fn a_number_is_not_given_again() {
        let loans = Loans::default();
        let (first, _) = loans.register();
        loans.forget(first);
        let (second, mut told) = loans.register();
        assert_ne!(first, second);
        loans.tell(first, Loan::Rest(true));
        assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    }

    #[test]
    fn what_is_lent_to_an_accept_loop_that_is_gone_is_closed() {
        let loans = Loans::default();
        let (serving, mut told) = loans.register();
        loans.forget(serving);
        let (lent, mut other_end) = UnixStream::pair().unwrap();
        other_end.set_nonblocking(true).unwrap();
        loans.tell(
            serving,
            Loan::Lent {
                id: 1,
                socket: lent.into(),
            },
        );
        assert_eq!(other_end.read(&mut [0]).unwrap(), 0);
        assert!(matches!(told.try_recv(), Err(TryRecvError::Disconnected)));
    }
}
