//! Who is there: so many clients and no more, none of them for longer than its request allows.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a request and its reply get, if it isn't one that takes its time.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// The clients of one listener.
pub(super) struct Clients {
    most: usize,
    next: Cell<u64>,
    clients: RefCell<BTreeMap<u64, Rc<State>>>,
}

struct State {
    doing: Cell<Doing>,
    leave: CancellationToken,
}

#[derive(Clone, Copy)]
enum Doing {
    /// The client has to say or to read something, since then; and by then, if it has begun with it.
    Waiting(Instant, Option<Instant>),
    /// The server has to do something, which has to be done by then if ever.
    Working(Option<Instant>),
}

impl Clients {
    pub(super) fn new(most: usize) -> Rc<Clients> {
        Rc::new(Clients {
            most,
            next: Cell::new(0),
            clients: RefCell::default(),
        })
    }

    /// Lets a client in. If there are as many as may be, the one that has been waited for the longest has to go for it;
    /// `None` if something is being done for all of them.
    pub(super) fn admit(self: &Rc<Clients>) -> Option<Client> {
        let mut clients = self.clients.borrow_mut();
        if clients.len() >= self.most {
            let waiting = clients
                .iter()
                .filter_map(|(id, state)| match state.doing.get() {
                    Doing::Waiting(since, _) => Some((since, *id)),
                    Doing::Working(_) => None,
                });
            let (_, oldest) = waiting.min()?;
            if let Some(state) = clients.remove(&oldest) {
                state.leave.cancel();
            }
        }
        let id = self.next.replace(self.next.get() + 1);
        let state = Rc::new(State {
            doing: Cell::new(Doing::Waiting(Instant::now(), None)),
            leave: CancellationToken::new(),
        });
        clients.insert(id, Rc::clone(&state));
        Some(Client {
            id,
            state,
            clients: Rc::downgrade(self),
        })
    }

    /// Sends away those that are overdue.
    pub(super) fn send_away_overdue(&self) {
        let now = Instant::now();
        for state in self.clients.borrow().values() {
            let (Doing::Waiting(_, by) | Doing::Working(by)) = state.doing.get();
            if by.is_some_and(|by| by <= now) {
                state.leave.cancel();
            }
        }
    }
}

/// One that was let in; dropped, it is gone.
pub(super) struct Client {
    id: u64,
    state: Rc<State>,
    clients: Weak<Clients>,
}

impl Client {
    /// It need not say anything.
    pub(super) fn idle(&self) {
        self.now(Doing::Waiting(Instant::now(), None));
    }

    /// It has begun to say something, or has something to read.
    pub(super) fn waited_for(&self) {
        let now = Instant::now();
        self.now(Doing::Waiting(now, Some(now + REQUEST)));
    }

    /// Something is being done for it.
    pub(super) fn served(&self) {
        self.now(Doing::Working(Some(Instant::now() + REQUEST)));
    }

    /// Something is being done for it that takes as long as it takes.
    pub(super) fn served_for_long(&self) {
        self.now(Doing::Working(None));
    }

    fn now(&self, doing: Doing) {
        self.state.doing.set(doing);
    }

    /// It has to go.
    pub(super) async fn sent_away(&self) {
        self.state.leave.cancelled().await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(clients) = self.clients.upgrade() {
            clients.clients.borrow_mut().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sent_away(client: &Client) -> bool {
        client.state.leave.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_is_waited_for_the_longest_goes_first() {
        let clients = Clients::new(3);
        let mut there = Vec::new();
        for _ in 0..3 {
            there.push(clients.admit().unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        there[0].served();
        there.push(clients.admit().unwrap());
        let gone: Vec<bool> = there.iter().map(is_sent_away).collect();
        assert_eq!(gone, [false, true, false, false]);
        for client in &there {
            client.served_for_long();
        }
        assert!(clients.admit().is_none());
        drop(there.pop());
        assert!(clients.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_its_time_and_no_more() {
        let clients = Clients::new(3);
        let [slow, long, idle] = [(); 3].map(|()| clients.admit().unwrap());
        slow.waited_for();
        long.served_for_long();
        tokio::time::advance(REQUEST / 2).await;
        clients.send_away_overdue();
        assert!(!is_sent_away(&slow));
        tokio::time::advance(REQUEST).await;
        clients.send_away_overdue();
        assert!(is_sent_away(&slow) && !is_sent_away(&long) && !is_sent_away(&idle));
    }
}
