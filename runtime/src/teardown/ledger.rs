//! Which detached teardown waits for which, and what a drain waits for: no task, lock or clock in here.

use std::collections::BTreeMap;

/// Names a pending teardown; a later arrival has a greater ticket.
pub(crate) type Ticket = u64;

/// A detached teardown as it arrives. `O` is who dropped it, `R` the runtime that runs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<O, R> {
    pub(crate) name: &'static str,
    pub(crate) runtime: R,
    pub(crate) origin: O,
    /// The place of its context in the order in which all contexts were entered.
    pub(crate) seq: u64,
    /// The group its context is a member of; 0 for none.
    pub(crate) group: u64,
}

/// A teardown's place in the order: what it waits for is settled when it begins to wait, so that
/// whatever arrives later can neither delay it for ever nor close a circle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<O> {
    origin: O,
    group: u64,
    /// Of its own; only teardowns with a smaller one are waited for.
    ticket: Ticket,
    /// Those to wait for with a number up to this one have ended. It begins with the context's own number.
    past: u64,
}

/// How a detached teardown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It ran to its end, be it an error or a panic.
    Ended,
    /// Its runtime dropped it half-way.
    Abandoned,
}

/// What a drain saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) ended: usize,
    pub(crate) abandoned: Vec<&'static str>,
}

struct Pending<O, R, W> {
    arrival: Arrival<O, R>,
    /// The number of drains that run inside this teardown.
    draining: usize,
    /// Whom to wake at its end, by their own tickets.
    waiters: BTreeMap<Ticket, W>,
}

struct Drain<R, W> {
    /// `None`: all runtimes.
    runtime: Option<R>,
    /// The teardown that this drain is called from.
    inside: Option<Ticket>,
    /// Nothing was left once. Whatever arrives between then and its closing is none of its own.
    settled: bool,
    seen: Seen,
    waker: Option<W>,
}

pub(crate) struct Ledger<O, R, W> {
    next_ticket: Ticket,
    pending: BTreeMap<Ticket, Pending<O, R, W>>,
    order: BTreeMap<(O, u64), Ticket>,
    next_drain: u64,
    drains: BTreeMap<u64, Drain<R, W>>,
}

impl<O: Copy + Ord, R: Copy + Eq, W> Ledger<O, R, W> {
    pub(crate) const fn new() -> Self {
        Ledger {
            next_ticket: 0,
            pending: BTreeMap::new(),
            order: BTreeMap::new(),
            next_drain: 0,
            drains: BTreeMap::new(),
        }
    }

    /// A teardown is left to itself; it is pending until [`end`](Self::end). Gives its ticket, and its turn if
    /// it has to wait for others.
    pub(crate) fn arrive(&mut self, arrival: Arrival<O, R>) -> (Ticket, Option<Turn<O>>) {
        let Arrival {
            origin, seq, group, ..
        } = arrival;
        let turn = self.turn(origin, seq, group);
        let ticket = turn.ticket;
        let waits = self.blocker(&mut { turn }).is_some();
        self.order.insert((origin, seq), ticket);
        self.pending.insert(
            ticket,
            Pending {
                arrival,
                draining: 0,
                waiters: BTreeMap::new(),
            },
        );
        (ticket, waits.then_some(turn))
    }

    /// The turn of a teardown that somebody awaits.
    pub(crate) fn turn(&mut self, origin: O, seq: u64, group: u64) -> Turn<O> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        Turn {
            origin,
            group,
            ticket,
            past: seq,
        }
    }

    /// One of the teardowns that have to end before `turn` comes, if there are any: the one that was entered
    /// first. Those that `turn` has come past are never looked at again.
    fn blocker(&self, turn: &mut Turn<O>) -> Option<Ticket> {
        let inner = (turn.origin, turn.past.checked_add(1)?)..=(turn.origin, u64::MAX);
        for (&(_, seq), &ticket) in self.order.range(inner) {
            let is_member = || turn.group != 0 && self.pending[&ticket].arrival.group == turn.group;
            if ticket < turn.ticket && !is_member() {
                turn.past = seq - 1;
                return Some(ticket);
            }
        }
        None
    }

    /// Whether `turn` has come; if not, `waker` is kept for when it may have.
    ///
    /// Also gives a waker that is no longer needed: dropping it may drop a future, and with it a guard, so
    /// that must not happen while this ledger is locked.
    pub(crate) fn has_come(&mut self, turn: &mut Turn<O>, waker: W) -> (bool, Option<W>) {
        let blocker = self.blocker(turn);
        match blocker.and_then(|ticket| self.pending.get_mut(&ticket)) {
            Some(blocker) => (false, blocker.waiters.insert(turn.ticket, waker)),
            None => (true, Some(waker)),
        }
    }

    /// `ticket` has ended; the wakers of all who may go on now are appended to `wake`.
    pub(crate) fn end(&mut self, ticket: Ticket, fate: Fate, wake: &mut Vec<W>) {
        let Some(ended) = self.pending.remove(&ticket) else {
            return;
        };
        let Arrival {
            name,
            runtime,
            origin,
            seq,
            ..
        } = ended.arrival;
        self.order.remove(&(origin, seq));
        wake.extend(ended.waiters.into_values());
        for drain in self.drains.values_mut() {
            if !drain.settled && drain.runtime.is_none_or(|drained| drained == runtime) {
                match fate {
                    Fate::Ended => drain.seen.ended += 1,
                    Fate::Abandoned => drain.seen.abandoned.push(name),
                }
                wake.extend(drain.waker.take());
            }
        }
    }

    /// A drain begins; called from inside the teardown `inside`, if any.
    pub(crate) fn open_drain(
        &mut self,
        runtime: Option<R>,
        inside: Option<Ticket>,
        wake: &mut Vec<W>,
    ) -> u64 {
        if let Some(own) = inside.and_then(|ticket| self.pending.get_mut(&ticket)) {
            own.draining += 1;
            // Drains of other teardowns no longer wait for this one.
            wake.extend(
                self.drains
                    .values_mut()
                    .filter_map(|drain| drain.waker.take()),
            );
        }
        let id = self.next_drain;
        self.next_drain += 1;
        self.drains.insert(
            id,
            Drain {
                runtime,
                inside,
                settled: false,
                seen: Seen::default(),
                waker: None,
            },
        );
        id
    }

    /// Whether nothing is left that this drain waits for; if something is, `waker` is kept. Gives a waker
    /// that is no longer needed, as [`has_come`](Self::has_come) does.
    pub(crate) fn drained(&mut self, id: u64, waker: W) -> (bool, Option<W>) {
        let done = self.left(id).next().is_none();
        match self.drains.get_mut(&id) {
            Some(drain) if !done && !drain.settled => (false, drain.waker.replace(waker)),
            Some(drain) => {
                drain.settled = true;
                (true, Some(waker))
            }
            None => (true, Some(waker)),
        }
    }

    /// The drain is over: what it saw, and the names of those it leaves. Also gives a waker that is no longer
    /// needed.
    pub(crate) fn close_drain(&mut self, id: u64) -> (Seen, Option<W>) {
        let left: Vec<&'static str> = self.left(id).collect();
        let Some(drain) = self.drains.remove(&id) else {
            return (Seen::default(), None);
        };
        if let Some(own) = drain
            .inside
            .and_then(|ticket| self.pending.get_mut(&ticket))
        {
            own.draining -= 1;
        }
        let mut seen = drain.seen;
        if !drain.settled {
            seen.abandoned.extend(left);
        }
        (seen, drain.waker)
    }

    fn left(&self, id: u64) -> impl Iterator<Item = &'static str> {
        let drain = self.drains.get(&id);
        let own = drain.and_then(|drain| {
            let ticket = drain.inside?;
            Some((ticket, self.pending.get(&ticket)?.arrival))
        });
        self.pending
            .iter()
            .filter(move |&(&ticket, pending)| {
                let arrival = &pending.arrival;
                let Some(drain) = drain else { return false };
                if drain
                    .runtime
                    .is_some_and(|runtime| runtime != arrival.runtime)
                {
                    return false;
                }
                // From inside a teardown, neither it is waited for nor who waits for it: those that
                // drain themselves, and outer ones dropped after it.
                own.is_none_or(|(own_ticket, own)| {
                    ticket != own_ticket
                        && pending.draining == 0
                        && !(arrival.origin == own.origin
                            && arrival.seq < own.seq
                            && ticket > own_ticket)
                })
            })
            .map(|(_, pending)| pending.arrival.name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, Fate, Ledger, Ticket, Turn};
    use proptest::prelude::*;

    type TestLedger = Ledger<u8, u8, u64>;

    type Alive = (Ticket, Arrival<u8, u8>, Option<Turn<u8>>);

    fn arrival(origin: u8, seq: u64, group: u64) -> Arrival<u8, u8> {
        Arrival {
            name: "test",
            runtime: origin % 2,
            origin,
            seq,
            group,
        }
    }

    fn end(ledger: &mut TestLedger, ticket: Ticket) -> Vec<u64> {
        let mut wake = Vec::new();
        ledger.end(ticket, Fate::Ended, &mut wake);
        wake
    }

    #[test]
    fn inner_goes_before_outer_of_the_same_origin_only() {
        let mut ledger = TestLedger::new();
        let (inner, free) = ledger.arrive(arrival(1, 20, 0));
        assert!(free.is_none());
        let (_, other) = ledger.arrive(arrival(2, 10, 0));
        assert!(other.is_none(), "another origin");
        let (_, later) = ledger.arrive(arrival(1, 30, 0));
        assert!(later.is_none(), "entered later, so it needn't wait");
        let (_, outer) = ledger.arrive(arrival(1, 10, 0));
        let mut outer = outer.expect("it has to wait");
        assert!(!ledger.has_come(&mut outer, 7).0);
        assert_eq!(end(&mut ledger, inner), [7]);
        assert!(
            !ledger.has_come(&mut outer, 8).0,
            "for the one entered last"
        );
        let last = ledger
            .pending
            .keys()
            .nth(1)
            .copied()
            .expect("it is pending");
        assert_eq!(end(&mut ledger, last), [8]);
        assert!(ledger.has_come(&mut outer, 9).0);
    }

    #[test]
    fn members_of_a_group_pass_each_other() {
        let mut ledger = TestLedger::new();
        ledger.arrive(arrival(1, 20, 5));
        assert!(ledger.arrive(arrival(1, 10, 5)).1.is_none());
        assert!(ledger.arrive(arrival(1, 9, 6)).1.is_some());
        assert!(ledger.arrive(arrival(1, 8, 0)).1.is_some());
    }

    #[test]
    fn a_drain_counts_its_runtime_and_names_what_it_leaves() {
        let mut ledger = TestLedger::new();
        let (mine, _) = ledger.arrive(arrival(1, 1, 0));
        let (foreign, _) = ledger.arrive(arrival(2, 2, 0));
        let drain = ledger.open_drain(Some(1), None, &mut Vec::new());
        let all = ledger.open_drain(None, None, &mut Vec::new());
        assert!(!ledger.drained(drain, 1).0);
        end(&mut ledger, mine);
        assert!(ledger.drained(drain, 1).0);
        assert!(!ledger.drained(all, 2).0);
        let seen = ledger.close_drain(drain).0;
        assert_eq!((seen.ended, seen.abandoned.len()), (1, 0));
        let mut wake = Vec::new();
        ledger.end(foreign, Fate::Abandoned, &mut wake);
        assert_eq!(wake, [2]);
        let seen = ledger.close_drain(all).0;
        assert_eq!((seen.ended, seen.abandoned), (1, vec!["test"]));
    }

    #[test]
    fn what_arrives_after_a_drain_has_settled_is_not_left_by_it() {
        let mut ledger = TestLedger::new();
        let drain = ledger.open_drain(None, None, &mut Vec::new());
        assert!(ledger.drained(drain, 1).0);
        let (ended, _) = ledger.arrive(arrival(1, 1, 0));
        end(&mut ledger, ended);
        ledger.arrive(arrival(1, 2, 0));
        assert!(ledger.drained(drain, 2).0);
        assert_eq!(ledger.close_drain(drain).0, super::Seen::default());
    }

    #[test]
    fn drains_inside_teardowns_end() {
        let mut ledger = TestLedger::new();
        let (inner, _) = ledger.arrive(arrival(1, 20, 0));
        let (_outer, waits) = ledger.arrive(arrival(1, 10, 0));
        assert!(waits.is_some());
        let drain = ledger.open_drain(Some(1), Some(inner), &mut Vec::new());
        assert!(
            ledger.drained(drain, 1).0,
            "neither itself nor who waits for it"
        );
        ledger.close_drain(drain);
        let drain = ledger.open_drain(Some(1), Some(inner), &mut Vec::new());
        let (another, _) = ledger.arrive(arrival(3, 30, 0));
        assert!(!ledger.drained(drain, 1).0);
        let mut wake = Vec::new();
        let other = ledger.open_drain(Some(1), Some(another), &mut wake);
        assert_eq!(wake, [1]);
        assert!(
            ledger.drained(drain, 1).0,
            "two that drain don't wait for each other"
        );
        ledger.close_drain(other);
        ledger.close_drain(drain);
    }

    proptest! {
        /// Whatever arrives in whatever order: each waits exactly for those entered after it that were there
        /// before it, and all come to their end.
        #[test]
        fn turns_are_kept_and_come(
            arrivals in proptest::collection::vec((0u8..3, 0u64..3), 1..40),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 40),
            ends in proptest::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let mut ledger = TestLedger::new();
            let mut seqs: Vec<u64> = (1..=arrivals.len() as u64).collect();
            let mut alive: Vec<Alive> = Vec::new();
            for (&(origin, group), index) in arrivals.iter().zip(&order) {
                let seq = seqs.remove(index.index(seqs.len()));
                let arrival = arrival(origin, seq, group);
                let (ticket, turn) = ledger.arrive(arrival);
                alive.push((ticket, arrival, turn));
            }
            let mut ends = ends.iter().cycle();
            while !alive.is_empty() {
                let mut free = Vec::new();
                for at in 0..alive.len() {
                    let (ticket, own, mut turn) = alive[at];
                    let waits = alive.iter().any(|(other, entered, _)| {
                        entered.origin == own.origin
                            && entered.seq > own.seq
                            && *other < ticket
                            && (own.group == 0 || entered.group != own.group)
                    });
                    let come = turn.as_mut().is_none_or(|turn| ledger.has_come(turn, ticket).0);
                    prop_assert_eq!(come, !waits);
                    alive[at].2 = turn;
                    if come {
                        free.push(at);
                    }
                }
                prop_assert!(!free.is_empty(), "a circle");
                let index = ends.next().expect("it is a cycle").index(free.len());
                let (ticket, ..) = alive.remove(free[index]);
                end(&mut ledger, ticket);
            }
            prop_assert!(ledger.pending.is_empty() && ledger.order.is_empty());
        }
    }
}
