//! Which workers wait for connections at a Unix socket, of which all have the same one.
//!
//! Every one that waits is woken by every connection. So where there are many workers, few of them wait, in turn.

use std::collections::{BTreeMap, VecDeque};

use super::policy::WorkerId;

/// Up to so many all wait.
const FEW: usize = 4;
/// Of more, so many wait at once.
const AT_ONCE: usize = 2;

/// The accept loops at sockets of which each has one for all, by the sockets' inodes.
#[derive(Debug, Default)]
pub(super) struct Turns {
    sockets: BTreeMap<u64, VecDeque<Waiter>>,
    orders: Vec<Turn>,
}

/// An accept loop.
#[derive(Debug)]
struct Waiter {
    worker: WorkerId,
    serving: u64,
    /// It may have no more connections open.
    full: bool,
    /// Its worker's event loop doesn't turn.
    blocked: bool,
    /// Whether it is to rest, if it was told. It waits until it is.
    rests: Option<bool>,
}

impl Waiter {
    fn is_able(&self) -> bool {
        !self.full && !self.blocked
    }
}

/// What an accept loop is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) worker: WorkerId,
    pub(super) serving: u64,
    /// It is to leave connections to others, or to accept them.
    pub(super) rests: bool,
}

impl Turns {
    /// An accept loop begins.
    pub(super) fn begin(&mut self, worker: WorkerId, serving: u64, socket: u64) {
        let waiter = Waiter {
            worker,
            serving,
            full: false,
            blocked: false,
            rests: None,
        };
        let waiters = self.sockets.entry(socket).or_default();
        waiters.push_back(waiter);
        // At no other socket has anything changed, of which there may be many.
        self.orders.extend(settle(waiters));
    }

    /// An accept loop has ended.
    pub(super) fn end(&mut self, worker: WorkerId, serving: u64) {
        self.keep(|waiter| (waiter.worker, waiter.serving) != (worker, serving));
    }

    /// A worker is on its way out, or gone.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        self.keep(|waiter| waiter.worker != worker);
    }

    /// An accept loop has had its turn.
    pub(super) fn over(&mut self, worker: WorkerId, serving: u64) {
        for waiters in self.sockets.values_mut() {
            let is_it = |waiter: &Waiter| (waiter.worker, waiter.serving) == (worker, serving);
            let place = waiters.iter().position(is_it);
            let waiter = place.and_then(|place| waiters.remove(place));
            waiters.extend(waiter);
        }
        self.settle();
    }

    /// An accept loop may have no more connections open, or may again.
    pub(super) fn full(&mut self, worker: WorkerId, serving: u64, full: bool) {
        self.change(worker, |waiter| {
            if waiter.serving == serving {
                waiter.full = full;
            }
        });
    }

    /// A worker's event loop doesn't turn, or does again.
    pub(super) fn blocked(&mut self, worker: WorkerId, blocked: bool) {
        self.change(worker, |waiter| waiter.blocked = blocked);
    }

    /// What they are to be told, in turn: those who are to accept come before those who are to rest.
    pub(super) fn take_orders(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.orders)
    }

    fn keep(&mut self, keep: impl Fn(&Waiter) -> bool) {
        for waiters in self.sockets.values_mut() {
            waiters.retain(&keep);
        }
        self.sockets.retain(|_, waiters| !waiters.is_empty());
        self.settle();
    }

    fn change(&mut self, worker: WorkerId, change: impl Fn(&mut Waiter)) {
        let all = self.sockets.values_mut().flatten();
        all.filter(|waiter| waiter.worker == worker)
            .for_each(change);
        self.settle();
    }

    fn settle(&mut self) {
        self.orders
            .extend(self.sockets.values_mut().flat_map(settle));
    }
}

/// What those at a socket are to be told: nobody rests before somebody else accepts.
fn settle(waiters: &mut VecDeque<Waiter>) -> Vec<Turn> {
    let mut orders = Vec::new();
    let takes_turns = waiters.len() > FEW;
    let mut left = match takes_turns {
        true => AT_ONCE,
        false => usize::MAX,
    };
    // Those who can't may be able again before anybody knows.
    for able in [true, false] {
        let all = waiters.iter_mut();
        for waiter in all.filter(|waiter| waiter.is_able() == able) {
            let rests = left == 0;
            left = left.saturating_sub(1);
            let knows = match waiter.rests {
                Some(told) => told == rests,
                None => !takes_turns,
            };
            if !knows {
                waiter.rests = Some(rests);
                orders.push(Turn {
                    worker: waiter.worker,
                    serving: waiter.serving,
                    rests,
                });
            }
        }
    }
    orders.sort_by_key(|order| order.rests);
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const SOCKET: u64 = 7;

    fn of(workers: u64) -> Turns {
        let mut turns = Turns::default();
        (0..workers).for_each(|worker| turns.begin(WorkerId(worker), 0, SOCKET));
        turns
    }

    /// Who accepts, as far as they were told.
    fn accept(turns: &Turns) -> Vec<u64> {
        let waiters = turns.sockets.values().flatten();
        let accept = waiters.filter(|waiter| waiter.rests != Some(true));
        accept.map(|waiter| waiter.worker.0).collect()
    }

    #[test]
    fn few_workers_are_told_nothing() {
        let mut turns = of(4);
        turns.over(WorkerId(0), 0);
        turns.full(WorkerId(1), 0, true);
        assert_eq!(turns.take_orders(), []);
        assert_eq!(accept(&turns).len(), 4);
    }

    #[test]
    fn of_many_two_accept_and_each_has_its_turn() {
        let mut turns = of(7);
        assert_eq!(accept(&turns), [0, 1]);
        let mut seen = [0; 7];
        for _ in 0..70 {
            let worker = accept(&turns)[0];
            seen[worker as usize] += 1;
            turns.take_orders();
            turns.over(WorkerId(worker), 0);
            let orders = turns.take_orders();
            assert_eq!(orders.len(), 2);
            assert!(!orders[0].rests && orders[1].rests, "{orders:?}");
        }
        assert_eq!(seen, [10; 7]);
    }

    #[test]
    fn one_that_is_blocked_has_no_turn() {
        let mut turns = of(5);
        turns.blocked(WorkerId(0), true);
        assert_eq!(accept(&turns), [1, 2]);
        turns.blocked(WorkerId(0), false);
        assert_eq!(accept(&turns), [0, 1]);
        turns.leave(WorkerId(1));
        assert_eq!(accept(&turns), [0, 2, 3, 4], "they are few again");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin,
        End(usize),
        Over(usize),
        Full(usize, bool),
        Block(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = || 0..10_usize;
        prop_oneof![
            3 => Just(Step::Begin),
            1 => at().prop_map(Step::End),
            3 => at().prop_map(Step::Over),
            1 => (at(), any::<bool>()).prop_map(|(at, full)| Step::Full(at, full)),
            1 => (at(), any::<bool>()).prop_map(|(at, blocked)| Step::Block(at, blocked)),
        ]
    }

    proptest! {
        /// Who was told what decides it, in each moment.
        #[test]
        fn somebody_accepts_and_they_are_few(steps in proptest::collection::vec(step(), 0..100)) {
            let mut turns = Turns::default();
            let mut rest = BTreeMap::<WorkerId, bool>::new();
            let mut next = 0;
            for step in steps {
                let worker = |at: usize| rest.keys().nth(at % rest.len().max(1)).copied();
                match step {
                    Step::Begin => {
                        rest.insert(WorkerId(next), false);
                        turns.begin(WorkerId(next), 0, SOCKET);
                        next += 1;
                    }
                    Step::End(at) => if let Some(worker) = worker(at) {
                        rest.remove(&worker);
                        turns.end(worker, 0);
                    },
                    Step::Over(at) => if let Some(worker) = worker(at) {
                        turns.over(worker, 0);
                    },
                    Step::Full(at, full) => if let Some(worker) = worker(at) {
                        turns.full(worker, 0, full);
                    },
                    Step::Block(at, blocked) => if let Some(worker) = worker(at) {
                        turns.blocked(worker, blocked);
                    },
                }
                let before = rest.values().filter(|rests| !**rests).count();
                for order in turns.take_orders() {
                    rest.insert(order.worker, order.rests);
                    let accept = rest.values().filter(|rests| !**rests).count();
                    prop_assert!(accept >= before.min(1), "nobody accepts for a while");
                }
                let accept = rest.values().filter(|rests| !**rests).count();
                match rest.len() {
                    0..=FEW => prop_assert_eq!(accept, rest.len()),
                    _ => prop_assert_eq!(accept, AT_ONCE),
                }
                let waiters = turns.sockets.values().flatten();
                let able = waiters.clone().filter(|waiter| waiter.is_able());
                let able_and_accept = able.clone().filter(|waiter| !rest[&waiter.worker]).count();
                prop_assert!(able_and_accept >= able.count().min(AT_ONCE));
            }
        }
    }
}
