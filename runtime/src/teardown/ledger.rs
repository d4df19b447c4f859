//! Which teardown waits for which detached ones, and what a drain waits for: no task, lock or clock in here.
//!
//! A context is at a number in a place, and so is a place in the one around it: a context's path leads from there
//! outwards. It waits only for what has its own place on the path, at its own number (what is inside it) or a
//! greater one (what was entered later, and what is inside that). Of two paths that part in a place, it is the one
//! with the greater number that is waited for, and of two that don't, the longer one: waits form no circle.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::Paths;
pub(crate) use super::paths::{Range, Ticket};

/// Where a context is: its place and its number there, then the place around that one and when that began in it,
/// and so on outwards.
pub(crate) type Path<P> = Vec<(P, u64)>;

/// A detached teardown as it arrives. `R` is the runtime that runs it.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<P, R> {
    pub(crate) name: &'static str,
    pub(crate) runtime: R,
    pub(crate) path: Path<P>,
    /// It was dropped half-way through. What it holds by then, others may need for their own end: it goes on at once.
    pub(crate) begun: bool,
}

impl<P: Copy + Ord, R> Arrival<P, R> {
    /// Where it is itself.
    fn own(&self) -> Option<(P, u64)> {
        self.path.first().copied()
    }

    /// The number in `place` of whatever is there and has this inside, or is it.
    fn number_in(&self, place: P) -> Option<u64> {
        let found = self.path.iter().find(|&&(other, _)| other == place);
        found.map(|&(_, number)| number)
    }
}

/// What a wait is for. It is settled when the wait begins: whatever arrives later doesn't delay it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<P> {
    /// Only teardowns with a smaller one are waited for.
    ticket: Ticket,
    /// Whose wait it is, if that is pending.
    own: Option<Ticket>,
    /// Those below its beginning have ended.
    left: Range<P>,
    /// Which teardown will wake it.
    blocker: Option<Ticket>,
}

impl<P> Turn<P> {
    /// Whether a teardown keeps a waker of it.
    pub(crate) fn is_waiting(&self) -> bool {
        self.blocker.is_some()
    }
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

struct Pending<P, R, W> {
    arrival: Arrival<P, R>,
    /// The number of drains that run inside this teardown.
    draining: usize,
    /// Whom to wake at its end, by their own tickets.
    waiters: BTreeMap<Ticket, W>,
}

struct Drain<R, W> {
    /// `None`: all runtimes.
    runtime: Option<R>,
    /// The teardowns that this drain is called inside of.
    inside: Vec<Ticket>,
    /// Nothing was left once. Whatever arrives between then and its closing is none of its own.
    settled: bool,
    seen: Seen,
    waker: Option<W>,
}

pub(crate) struct Ledger<P, R, W> {
    next_ticket: Ticket,
    pending: BTreeMap<Ticket, Pending<P, R, W>>,
    /// The whole path of each that is pending.
    paths: Paths<P>,
    next_drain: u64,
    drains: BTreeMap<u64, Drain<R, W>>,
}

impl<P: Copy + Ord, R: Copy + Eq, W> Ledger<P, R, W> {
    pub(crate) const fn new() -> Self {
        Ledger {
            next_ticket: 0,
            pending: BTreeMap::new(),
            paths: Paths::new(),
            next_drain: 0,
            drains: BTreeMap::new(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// A teardown is left to itself; it is pending until [`end`](Self::end). Gives its ticket, and its turn if
    /// it has to wait: for those inside it, and those that were entered after it in its place, or are inside such.
    /// One that had begun before never has to.
    pub(crate) fn arrive(&mut self, arrival: Arrival<P, R>) -> (Ticket, Option<Turn<P>>) {
        let ticket = self.ticket();
        let mut turn = None;
        let own = arrival.own().filter(|_| !arrival.begun);
        if let Some((place, from)) = own {
            let to = u64::MAX;
            turn = Some(Turn {
                ticket,
                own: Some(ticket),
                left: Range { place, from, to },
                blocker: None,
            });
            turn = turn.filter(|turn| self.blocker(turn).is_some());
        }
        for &(place, number) in &arrival.path {
            self.paths.insert(place, number, ticket);
        }
        self.pending.insert(
            ticket,
            Pending {
                arrival,
                draining: 0,
                waiters: BTreeMap::new(),
            },
        );
        (ticket, turn)
    }

    /// A wait for all in `range` that are pending now; none if there are none.
    pub(crate) fn turn(&mut self, range: Range<P>) -> Option<Turn<P>> {
        let turn = Turn {
            ticket: self.ticket(),
            own: None,
            left: range,
            blocker: None,
        };
        self.blocker(&turn).is_some().then_some(turn)
    }

    /// Before `ticket` ends: a wait for those inside it, which it has dropped itself, if there are any.
    pub(crate) fn last_turn(&mut self, ticket: Ticket) -> Option<Turn<P>> {
        let (place, number) = self.pending.get(&ticket)?.arrival.own()?;
        let turn = Turn {
            ticket: self.ticket(),
            own: Some(ticket),
            left: Range {
                place,
                from: number,
                to: number,
            },
            blocker: None,
        };
        self.blocker(&turn).is_some().then_some(turn)
    }

    /// Whether any of `range` is pending.
    pub(crate) fn is_any_in(&self, range: Range<P>) -> bool {
        self.in_range(range).next().is_some()
    }

    /// Of those that are pending on this runtime, or on any.
    #[cfg(feature = "monitor")]
    pub(crate) fn names(&self, on: Option<R>) -> impl Iterator<Item = &'static str> + '_ {
        let arrivals = self.pending.values().map(|pending| &pending.arrival);
        let there = arrivals.filter(move |arrival| on.is_none_or(|on| on == arrival.runtime));
        there.map(|arrival| arrival.name)
    }

    fn in_range(&self, range: Range<P>) -> impl Iterator<Item = (u64, Ticket)> + '_ {
        self.paths.all(range)
    }

    /// One of the teardowns that have to end before `turn` comes, if there are any: the one at the smallest number.
    fn blocker(&self, turn: &Turn<P>) -> Option<(u64, Ticket)> {
        self.paths.first_before(turn.left, turn.ticket, turn.own)
    }

    /// Whether `turn` has come; if not, `waker` is kept for when it may have.
    ///
    /// Also gives a waker that is no longer needed: dropping it may drop a future, and with it a guard, so
    /// that must not happen while this ledger is locked.
    pub(crate) fn has_come(&mut self, turn: &mut Turn<P>, waker: W) -> (bool, Option<W>) {
        let Some((number, ticket)) = self.blocker(turn) else {
            turn.blocker = None;
            return (true, Some(waker));
        };
        // Those that `turn` has come past are never looked at again.
        turn.left.from = number;
        turn.blocker = Some(ticket);
        match self.pending.get_mut(&ticket) {
            Some(blocker) => (false, blocker.waiters.insert(turn.ticket, waker)),
            None => (true, Some(waker)),
        }
    }

    /// Nobody waits for `turn` any more. Gives a waker that is no longer needed.
    pub(crate) fn give_up(&mut self, turn: &Turn<P>) -> Option<W> {
        let blocker = self.pending.get_mut(&turn.blocker?)?;
        blocker.waiters.remove(&turn.ticket)
    }

    /// What was at `old` in a place is now at `new` there, with all that is inside `inner`.
    pub(crate) fn renumber(&mut self, inner: P, outer: P, old: u64, new: u64) {
        let all = Range {
            place: inner,
            from: 0,
            to: u64::MAX,
        };
        let inside: Vec<Ticket> = self.in_range(all).map(|(_, ticket)| ticket).collect();
        for ticket in inside {
            self.paths.remove(outer, old, ticket);
            self.paths.insert(outer, new, ticket);
            let path = self.pending.get_mut(&ticket);
            let path = path
                .into_iter()
                .flat_map(|pending| &mut pending.arrival.path);
            for (place, number) in path {
                if *place == outer && *number == old {
                    *number = new;
                }
            }
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
            path,
            begun: _,
        } = ended.arrival;
        for (place, number) in path {
            self.paths.remove(place, number, ticket);
        }
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

    /// A drain begins, called at the end of `path`.
    pub(crate) fn open_drain(
        &mut self,
        runtime: Option<R>,
        path: &[(P, u64)],
        wake: &mut Vec<W>,
    ) -> u64 {
        let mut inside = Vec::new();
        for &(place, number) in path {
            let at = Range {
                place,
                from: number,
                to: number,
            };
            for (_, ticket) in self.in_range(at) {
                let arrival = self.pending.get(&ticket).map(|pending| &pending.arrival);
                if arrival.and_then(Arrival::own) == Some((place, number)) {
                    inside.push(ticket);
                }
            }
        }
        for ticket in &inside {
            if let Some(around) = self.pending.get_mut(ticket) {
                around.draining += 1;
            }
        }
        if !inside.is_empty() {
            // Drains of other teardowns no longer wait for these.
            let wakers = self
                .drains
                .values_mut()
                .filter_map(|drain| drain.waker.take());
            wake.extend(wakers);
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
        for ticket in &drain.inside {
            if let Some(around) = self.pending.get_mut(ticket) {
                around.draining -= 1;
            }
        }
        let mut seen = drain.seen;
        if !drain.settled {
            seen.abandoned.extend(left);
        }
        (seen, drain.waker)
    }

    fn left(&self, id: u64) -> impl Iterator<Item = &'static str> {
        let drain = self.drains.get(&id);
        let excepted = match drain {
            Some(drain) if !drain.inside.is_empty() => self.draining(),
            _ => BTreeSet::new(),
        };
        let all = drain.into_iter().flat_map(|drain| {
            let all = self.pending.iter();
            all.map(|(ticket, pending)| (drain.runtime, ticket, &pending.arrival))
        });
        all.filter(move |(drained, ticket, arrival)| {
            drained.is_none_or(|drained| drained == arrival.runtime) && !excepted.contains(ticket)
        })
        .map(|(_, _, arrival)| arrival.name)
    }

    /// What no drain inside a teardown waits for: teardowns with a drain in them, and those that wait for one.
    fn draining(&self) -> BTreeSet<Ticket> {
        let draining = self.pending.iter();
        let draining = draining.filter(|(_, pending)| pending.draining > 0);
        let mut found: BTreeSet<Ticket> = draining.map(|(&ticket, _)| ticket).collect();
        let mut new: Vec<Ticket> = found.iter().copied().collect();
        while let Some(awaited) = new.pop() {
            for &waiting in self.pending.keys() {
                if !found.contains(&waiting) && self.waits(waiting, awaited) {
                    found.insert(waiting);
                    new.push(waiting);
                }
            }
        }
        found
    }

    /// Whether a pending teardown waits for another one, or will before it ends.
    fn waits(&self, waiting: Ticket, awaited: Ticket) -> bool {
        let (Some(waiter), Some(other)) = (self.pending.get(&waiting), self.pending.get(&awaited))
        else {
            return false;
        };
        let Some((place, own)) = waiter.arrival.own() else {
            return false;
        };
        match other.arrival.number_in(place) {
            Some(number) if number == own => waiting != awaited,
            Some(number) => number > own && awaited < waiting && !waiter.arrival.begun,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, Fate, Ledger, Path, Range, Ticket, Turn};
    use proptest::prelude::*;
    use proptest::sample::Index;

    type TestLedger = Ledger<u8, u8, u64>;

    fn arrival(path: &[(u8, u64)]) -> Arrival<u8, u8> {
        Arrival {
            name: "test",
            runtime: path.last().map_or(0, |&(outermost, _)| outermost % 2),
            path: path.to_vec(),
            begun: false,
        }
    }

    fn end(ledger: &mut TestLedger, ticket: Ticket) -> Vec<u64> {
        let mut wake = Vec::new();
        ledger.end(ticket, Fate::Ended, &mut wake);
        wake
    }

    fn open_drain(ledger: &mut TestLedger, runtime: Option<u8>, path: &[(u8, u64)]) -> u64 {
        ledger.open_drain(runtime, path, &mut Vec::new())
    }

    #[test]
    fn inner_goes_before_outer_in_the_same_place_only() {
        let mut ledger = TestLedger::new();
        let (inner, free) = ledger.arrive(arrival(&[(1, 20)]));
        assert!(free.is_none());
        let (_, other) = ledger.arrive(arrival(&[(2, 10)]));
        assert!(other.is_none(), "another place");
        let (later, free) = ledger.arrive(arrival(&[(1, 30)]));
        assert!(free.is_none(), "entered later, so it needn't wait");
        let (_, outer) = ledger.arrive(arrival(&[(1, 10)]));
        let mut outer = outer.expect("it has to wait");
        assert!(!ledger.has_come(&mut outer, 7).0);
        assert_eq!(end(&mut ledger, inner), [7]);
        assert!(
            !ledger.has_come(&mut outer, 8).0,
            "for the one entered last"
        );
        assert_eq!(end(&mut ledger, later), [8]);
        assert!(ledger.has_come(&mut outer, 9).0);
    }

    #[test]
    fn what_is_inside_goes_first_and_what_is_beside_doesnt() {
        let mut ledger = TestLedger::new();
        let (inside, _) = ledger.arrive(arrival(&[(5, 1), (1, 10)]));
        assert!(ledger.arrive(arrival(&[(6, 1), (1, 10)])).1.is_none());
        assert!(ledger.arrive(arrival(&[(1, 11)])).1.is_none());
        let (_, turn) = ledger.arrive(arrival(&[(1, 10)]));
        assert!(turn.is_some());
        let only = |place, number| Range {
            place,
            from: number,
            to: number,
        };
        assert!(ledger.turn(only(1, 10)).is_some());
        assert!(ledger.turn(only(1, 9)).is_none());
        assert!(ledger.turn(only(5, 1)).is_some());
        end(&mut ledger, inside);
        assert!(ledger.turn(only(5, 1)).is_none());
    }

    #[test]
    fn what_it_has_dropped_itself_goes_before_its_end() {
        let mut ledger = TestLedger::new();
        let (ticket, _) = ledger.arrive(arrival(&[(1, 10)]));
        assert!(ledger.last_turn(ticket).is_none());
        let (inside, _) = ledger.arrive(arrival(&[(5, 1), (1, 10)]));
        ledger.arrive(arrival(&[(1, 11)]));
        let mut turn = ledger.last_turn(ticket).expect("it has to wait");
        assert!(!ledger.has_come(&mut turn, 1).0);
        assert_eq!(end(&mut ledger, inside), [1]);
        assert!(ledger.has_come(&mut turn, 1).0);
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_no_waker() {
        let mut ledger = TestLedger::new();
        let (ticket, _) = ledger.arrive(arrival(&[(1, 10)]));
        let all = Range {
            place: 1,
            from: 0,
            to: u64::MAX,
        };
        let mut turn = ledger.turn(all).expect("it has to wait");
        assert!(!turn.is_waiting());
        assert!(!ledger.has_come(&mut turn, 1).0);
        assert!(turn.is_waiting());
        assert_eq!(ledger.give_up(&turn), Some(1));
        assert_eq!(end(&mut ledger, ticket), [0; 0]);
    }

    #[test]
    fn what_is_inside_is_found_by_a_new_number() {
        let mut ledger = TestLedger::new();
        let (inside, _) = ledger.arrive(arrival(&[(5, 10), (1, 10)]));
        ledger.renumber(5, 1, 10, 12);
        let (beside, turn) = ledger.arrive(arrival(&[(1, 11)]));
        assert!(turn.is_some());
        let (_, turn) = ledger.arrive(arrival(&[(1, 12)]));
        assert!(turn.is_some());
        end(&mut ledger, beside);
        end(&mut ledger, inside);
        assert_eq!(ledger.paths.len(), 1);
    }

    #[test]
    fn a_drain_counts_its_runtime_and_names_what_it_leaves() {
        let mut ledger = TestLedger::new();
        let (mine, _) = ledger.arrive(arrival(&[(1, 1)]));
        let (foreign, _) = ledger.arrive(arrival(&[(2, 2)]));
        let drain = open_drain(&mut ledger, Some(1), &[]);
        let all = open_drain(&mut ledger, None, &[]);
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
        let drain = open_drain(&mut ledger, None, &[]);
        assert!(ledger.drained(drain, 1).0);
        let (ended, _) = ledger.arrive(arrival(&[(1, 1)]));
        end(&mut ledger, ended);
        ledger.arrive(arrival(&[(1, 2)]));
        assert!(ledger.drained(drain, 2).0);
        assert_eq!(ledger.close_drain(drain).0, super::Seen::default());
    }

    #[test]
    fn a_drain_waits_neither_for_what_it_is_inside_of_nor_for_what_waits_for_that() {
        let mut ledger = TestLedger::new();
        ledger.arrive(arrival(&[(1, 20)]));
        let (_, waits) = ledger.arrive(arrival(&[(1, 10)]));
        assert!(waits.is_some());
        let inside = [(7, 0), (1, 20)];
        let drain = open_drain(&mut ledger, Some(1), &inside);
        assert!(ledger.drained(drain, 1).0);
        ledger.close_drain(drain);

        // Neither the one after it in the same place, which was dropped before, nor one elsewhere waits for it.
        let mut ledger = TestLedger::new();
        let (before, _) = ledger.arrive(arrival(&[(1, 10)]));
        ledger.arrive(arrival(&[(1, 20)]));
        let (elsewhere, _) = ledger.arrive(arrival(&[(3, 10)]));
        let drain = open_drain(&mut ledger, Some(1), &inside);
        assert!(!ledger.drained(drain, 1).0);
        assert_eq!(end(&mut ledger, before), [1]);
        assert!(!ledger.drained(drain, 2).0);
        assert_eq!(end(&mut ledger, elsewhere), [2]);
        assert!(ledger.drained(drain, 3).0);
    }

    #[test]
    fn a_drain_outside_waits_for_what_is_drained_inside() {
        let mut ledger = TestLedger::new();
        let (draining, _) = ledger.arrive(arrival(&[(1, 20)]));
        let inner = open_drain(&mut ledger, None, &[(7, 0), (1, 20)]);
        let outer = open_drain(&mut ledger, None, &[]);
        assert!(ledger.drained(inner, 1).0);
        assert!(!ledger.drained(outer, 2).0);
        ledger.close_drain(inner);
        end(&mut ledger, draining);
        assert!(ledger.drained(outer, 3).0);
    }

    #[test]
    fn waits_are_for_what_is_inside_and_for_what_was_entered_later_and_left_before() {
        let mut ledger = TestLedger::new();
        let mut arrive = |path: &[(u8, u64)], begun| {
            let arrival = Arrival {
                begun,
                ..arrival(path)
            };
            ledger.arrive(arrival).0
        };
        let inside = arrive(&[(5, 1), (1, 10)], false);
        let later = arrive(&[(1, 20)], false);
        let outer = arrive(&[(1, 10)], false);
        let begun = arrive(&[(1, 5)], true);
        let elsewhere = arrive(&[(2, 5)], false);
        let last = arrive(&[(1, 30)], false);
        let all = [inside, later, outer, begun, elsewhere, last];
        for waiting in all {
            for awaited in all {
                let expected = waiting == outer && (awaited == inside || awaited == later);
                assert_eq!(
                    ledger.waits(waiting, awaited),
                    expected,
                    "{waiting} {awaited}"
                );
            }
        }
        let to = |from, to| Range { place: 1, from, to };
        assert!(ledger.is_any_in(to(0, u64::MAX)) && ledger.is_any_in(to(30, 30)));
        assert!(!ledger.is_any_in(to(0, 4)) && !ledger.is_any_in(to(11, 19)));
        ledger.arrive(arrival(&[(1, u64::MAX - 1)]));
        assert!(ledger.is_any_in(to(31, u64::MAX)) && !ledger.is_any_in(to(31, u64::MAX - 2)));
    }

    #[cfg(feature = "monitor")]
    #[test]
    fn names_are_those_of_a_runtime() {
        let mut ledger = TestLedger::new();
        for (name, place) in [("first", 1), ("second", 2), ("third", 3)] {
            let arrival = Arrival {
                name,
                ..arrival(&[(place, 1)])
            };
            ledger.arrive(arrival);
        }
        let names = |runtime| ledger.names(runtime).collect::<Vec<_>>();
        assert_eq!(names(Some(1)), ["first", "third"]);
        assert_eq!(names(Some(0)), ["second"]);
        assert_eq!(names(None), ["first", "second", "third"]);
    }

    #[test]
    fn drains_inside_several_teardowns_wait_for_all_others() {
        let mut ledger = TestLedger::new();
        // Two that drain, and one that waits for each of them.
        ledger.arrive(arrival(&[(1, 20)]));
        ledger.arrive(arrival(&[(1, 10)]));
        ledger.arrive(arrival(&[(3, 20)]));
        ledger.arrive(arrival(&[(3, 10)]));
        let (other, _) = ledger.arrive(arrival(&[(5, 1)]));
        let first = open_drain(&mut ledger, None, &[(7, 0), (1, 20)]);
        assert!(!ledger.drained(first, 1).0);
        let mut wake = Vec::new();
        let second = ledger.open_drain(None, &[(9, 0), (3, 20)], &mut wake);
        assert_eq!(wake, [1], "it may have waited for what drains now");
        assert!(!ledger.drained(first, 1).0);
        assert!(!ledger.drained(second, 2).0);
        let mut woken = end(&mut ledger, other);
        woken.sort_unstable();
        assert_eq!(woken, [1, 2]);
        assert!(ledger.drained(first, 1).0, "they don't wait for each other");
        assert!(ledger.drained(second, 2).0);
        ledger.close_drain(first);
        ledger.close_drain(second);
        assert!(ledger.draining().is_empty());
    }

    /// Whether the first goes before the second, if it was dropped before it: it is inside, or was entered later in
    /// the place of the second, or is inside such.
    fn goes_before(first: &Path<u8>, second: &Path<u8>) -> bool {
        let (place, own) = second[0];
        first
            .iter()
            .any(|&(other, number)| other == place && number >= own)
    }

    fn is_inside(first: &Path<u8>, second: &Path<u8>) -> bool {
        first[1..].contains(&second[0])
    }

    /// Contexts in a tree of places: two tasks, and places that began in one of those before them.
    fn tree() -> impl Strategy<Value = Vec<Path<u8>>> {
        let places = proptest::collection::vec(any::<Index>(), 0..8);
        let contexts = proptest::collection::vec(any::<Index>(), 1..30);
        (places, contexts).prop_map(|(places, contexts)| {
            let mut paths: Vec<Path<u8>> = vec![vec![(0, 0)], vec![(1, 0)]];
            let mut numbers = vec![0, 0];
            let next = |place: u8, numbers: &mut Vec<u64>| {
                numbers[usize::from(place)] += 1;
                numbers[usize::from(place)]
            };
            let mut made = Vec::new();
            let mut places = places.iter();
            for index in &contexts {
                if let Some(place) = places.next() {
                    let outer = &paths[place.index(paths.len())].clone();
                    let number = next(outer[0].0, &mut numbers);
                    let own = u8::try_from(paths.len()).unwrap();
                    let mut path = vec![(own, 0), (outer[0].0, number)];
                    path.extend(&outer[1..]);
                    paths.push(path);
                    numbers.push(0);
                    // The context whose own place this is.
                    made.push(paths[paths.len() - 1][1..].to_vec());
                }
                let mut path = paths[index.index(paths.len())].clone();
                path[0].1 = next(path[0].0, &mut numbers);
                made.push(path);
            }
            made
        })
    }

    struct Alive {
        ticket: Ticket,
        path: Path<u8>,
        begun: bool,
        turn: Option<Turn<u8>>,
        last: bool,
    }

    proptest! {
        /// Whatever arrives in whatever order: each waits exactly for those it has to, before and after, and all
        /// come to their end.
        #[test]
        fn turns_are_kept_and_come(
            contexts in tree(),
            order in proptest::collection::vec(any::<Index>(), 40),
            begun in proptest::collection::vec(any::<bool>(), 40),
            ends in proptest::collection::vec((any::<Index>(), 0u8..3), 60),
        ) {
            let mut ledger = TestLedger::new();
            let mut contexts = contexts;
            let mut alive: Vec<Alive> = Vec::new();
            let mut order = order.iter().cycle();
            let mut begun = begun.iter().cycle();
            let mut ends = ends.iter().cycle();
            while !contexts.is_empty() || !alive.is_empty() {
                let (index, what) = ends.next().expect("it is a cycle");
                if !contexts.is_empty() && (*what > 0 || alive.is_empty()) {
                    let index = order.next().expect("it is a cycle").index(contexts.len());
                    let path = contexts.remove(index);
                    let begun = *begun.next().expect("it is a cycle");
                    let arrival = Arrival { begun, ..arrival(&path) };
                    let (ticket, turn) = ledger.arrive(arrival);
                    alive.push(Alive { ticket, path, begun, turn, last: false });
                    continue;
                }
                let mut free = Vec::new();
                for at in 0..alive.len() {
                    let own = &alive[at];
                    let (ticket, mut turn) = (own.ticket, own.turn);
                    if own.last {
                        continue;
                    }
                    let waits = !own.begun && alive.iter().any(|other| {
                        other.ticket < ticket && goes_before(&other.path, &own.path)
                    });
                    let come = turn.as_mut().is_none_or(|turn| ledger.has_come(turn, ticket).0);
                    prop_assert_eq!(come, !waits);
                    alive[at].turn = turn;
                    if come {
                        free.push(at);
                    }
                }
                // Those that have run wait for what is inside them, whenever that was dropped.
                for &at in &free {
                    alive[at].last = true;
                }
                let over: Vec<usize> = (0..alive.len())
                    .filter(|&at| alive[at].last && ledger.last_turn(alive[at].ticket).is_none())
                    .collect();
                for (at, own) in alive.iter().enumerate().filter(|(_, own)| own.last) {
                    let waits = alive.iter().any(|other| is_inside(&other.path, &own.path));
                    prop_assert_eq!(over.contains(&at), !waits);
                }
                prop_assert!(!over.is_empty(), "a circle");
                let ended = alive.remove(over[index.index(over.len())]);
                end(&mut ledger, ended.ticket);
            }
            prop_assert!(ledger.pending.is_empty() && ledger.paths.len() == 0);
        }
    }
}
