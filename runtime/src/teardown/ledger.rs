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
    pub(crate) origin: O,
    pub(crate) seq: u64,
    pub(crate) group: u64,
    /// Only teardowns with a smaller ticket are waited for.
    pub(crate) before: Ticket,
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
    waiters: Vec<W>,
}

struct Drain<R, W> {
    /// `None`: all runtimes.
    runtime: Option<R>,
    /// The teardown that this drain is called from.
    inside: Option<Ticket>,
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

    /// A teardown is left to itself; it is pending until [`end`](Self::end).
    pub(crate) fn arrive(&mut self, arrival: Arrival<O, R>) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.order.insert((arrival.origin, arrival.seq), ticket);
        self.pending.insert(
            ticket,
            Pending {
                arrival,
                draining: 0,
                waiters: Vec::new(),
            },
        );
        ticket
    }

    /// The ticket that the next arrival will get.
    pub(crate) fn next_ticket(&self) -> Ticket {
        self.next_ticket
    }

    /// One of the teardowns that have to end before `turn` comes, if there are any.
    pub(crate) fn blocker(&self, turn: &Turn<O>) -> Option<Ticket> {
        let inner = (turn.origin, turn.seq.checked_add(1)?)..=(turn.origin, u64::MAX);
        self.order
            .range(inner)
            .map(|(_, &ticket)| ticket)
            .find(|ticket| {
                *ticket < turn.before
                    && (turn.group == 0 || self.pending[ticket].arrival.group != turn.group)
            })
    }

    /// Those to wake when `ticket` ends.
    pub(crate) fn waiters(&mut self, ticket: Ticket) -> Option<&mut Vec<W>> {
        self.pending
            .get_mut(&ticket)
            .map(|pending| &mut pending.waiters)
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
        wake.extend(ended.waiters);
        for drain in self.drains.values_mut() {
            if drain.runtime.is_none_or(|drained| drained == runtime) {
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
                seen: Seen::default(),
                waker: None,
            },
        );
        id
    }

    /// Whether nothing is left that this drain waits for; if something is, `waker` is kept.
    pub(crate) fn drained(&mut self, id: u64, waker: impl FnOnce() -> W) -> bool {
        let done = self.left(id).next().is_none();
        if !done {
            let waker = waker();
            if let Some(drain) = self.drains.get_mut(&id) {
                drain.waker = Some(waker);
            }
        }
        done
    }

    /// The drain is over: what it saw, and the names of those it leaves.
    pub(crate) fn close_drain(&mut self, id: u64) -> Seen {
        let left: Vec<&'static str> = self.left(id).collect();
        let Some(drain) = self.drains.remove(&id) else {
            return Seen::default();
        };
        if let Some(own) = drain
            .inside
            .and_then(|ticket| self.pending.get_mut(&ticket))
        {
            own.draining -= 1;
        }
        let mut seen = drain.seen;
        seen.abandoned.extend(left);
        seen
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

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}
