//! Whether a timer is the one that runs, and what is to be asked of and told to its lease: decisions without a clock or a
//! store.
//!
//! Times are nanoseconds on a clock that counts suspension, due times those of the schedule.

use std::collections::{BTreeMap, BTreeSet};

use crate::timer::lease::{Progress, Token};
use crate::timer::schedule::{NEVER, Nanos};

/// What counts as having run, for the one that goes on after a holder that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// A due time whose tick has ended. One whose holder was lost in it runs again, under a newer token.
    #[default]
    AtLeastOnce,
    /// A due time whose tick was started. It is recorded before that, and never started again.
    AtMostOnce,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::timer) struct Terms {
    /// [`NEVER`] for a lease that its holder keeps until it gives it up.
    pub(in crate::timer) ttl: Nanos,
    /// How long ticks may take to end once they are asked to.
    pub(in crate::timer) grace: Nanos,
    pub(in crate::timer) delivery: Delivery,
}

/// What is to be done with the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) enum Command {
    /// Take or renew it.
    Hold,
    /// Wait until it may be worth asking again.
    Wait,
    Record(Token, Nanos, Progress),
    Release(Token),
}

/// What the lease answered to [`Command::Hold`]; `None` is an error.
pub(in crate::timer) type Answer = Option<Option<Granted>>;

#[derive(Clone, Copy, Debug)]
pub(in crate::timer) struct Granted {
    pub(in crate::timer) token: Token,
    /// For how long, from before it was asked.
    pub(in crate::timer) left: Nanos,
}

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) enum Recorded {
    Written,
    /// Another has the lease.
    Stale,
    Failed,
}

/// What ticks may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) enum Standing {
    /// None may run.
    Out,
    /// They may start and run.
    Holds,
    /// Those that run are to end by then.
    Ends(Nanos),
}

/// So long after an answer it asks again at the earliest: a store that says at once that it is worth asking, and refuses,
/// or that grants nothing of the ttl, is not to hold the runtime.
const ASK_AGAIN: Nanos = 10_000_000;

#[derive(Debug)]
struct Holding {
    token: Token,
    /// The lease is held until then, whatever happens.
    until: Nanos,
    renew_at: Nanos,
    /// Ticks have been asked to end by then, for want of a renewal. One that comes all the same doesn't take that back:
    /// once they have ended the lease is asked for anew.
    ends_by: Option<Nanos>,
    /// No tick may run any more.
    lost: bool,
}

#[derive(Debug)]
pub(in crate::timer) struct Claim {
    terms: Terms,
    holding: Option<Holding>,
    /// When it asks for a lease that it doesn't hold.
    ask_at: Nanos,
    /// It doesn't ask before, whatever it is told.
    not_before: Nanos,
    /// Another has it.
    waits: bool,
    waiting: bool,
    /// Since when an answer is due.
    asked_at: Option<Nanos>,
    /// A record or a release is under way.
    writing: bool,
    write_at: Nanos,
    /// Due times whose ticks run, or were cut short: nothing from the first on is done.
    open: BTreeMap<Nanos, usize>,
    /// Due times that may be recorded.
    known: BTreeSet<Nanos>,
    /// Those before are dealt with, unless they are `open`.
    dealt_with: Nanos,
    recorded: Option<Nanos>,
    /// Where due times begin to count, for a lease of which nothing has been recorded: without that, who goes on after
    /// this holder wouldn't know that anything had been due.
    beginning: Option<Nanos>,
    /// Waits for a record.
    starting: Option<Nanos>,
    /// How many ticks run.
    running: usize,
    leaving: bool,
}

impl Claim {
    pub(in crate::timer) fn new(terms: Terms) -> Claim {
        Claim {
            terms,
            holding: None,
            ask_at: 0,
            not_before: 0,
            waits: false,
            waiting: false,
            asked_at: None,
            writing: false,
            write_at: 0,
            open: BTreeMap::new(),
            known: BTreeSet::new(),
            dealt_with: 0,
            recorded: None,
            beginning: None,
            starting: None,
            running: 0,
            leaving: false,
        }
    }

    pub(in crate::timer) fn delivery(&self) -> Delivery {
        self.terms.delivery
    }

    pub(in crate::timer) fn token(&self) -> Option<Token> {
        self.holding.as_ref().map(|holding| holding.token)
    }

    /// After a failure: soon, but not at once.
    fn pause(&self) -> Nanos {
        (self.terms.ttl / 15).clamp(10_000_000, 1_000_000_000)
    }

    /// When running ticks are asked to end, and when they are dropped: both before the lease is over.
    fn ends(&self, until: Nanos) -> (Nanos, Nanos) {
        if until == NEVER {
            return (NEVER, NEVER);
        }
        let drop_at = until.saturating_sub(self.terms.ttl / 10);
        let ask_at = drop_at.saturating_sub(self.terms.grace.min(self.terms.ttl / 3));
        (ask_at, drop_at)
    }

    pub(in crate::timer) fn standing(&self, now: Nanos) -> Standing {
        match &self.holding {
            Some(holding) if !holding.lost => {
                let (ask_at, drop_at) = self.limits(holding);
                if now < ask_at {
                    Standing::Holds
                } else if now < drop_at {
                    Standing::Ends(drop_at)
                } else {
                    Standing::Out
                }
            }
            _ => Standing::Out,
        }
    }

    /// What ticks may do now, where it is acted upon: what has begun to end doesn't go on.
    pub(in crate::timer) fn judge(&mut self, now: Nanos) -> Standing {
        let standing = self.standing(now);
        if let Some(holding) = &mut self.holding {
            match standing {
                Standing::Holds => {}
                Standing::Ends(by) => holding.ends_by = Some(by),
                Standing::Out => holding.lost = true,
            }
        }
        standing
    }

    /// When running ticks are asked to end, and when they are dropped.
    fn limits(&self, holding: &Holding) -> (Nanos, Nanos) {
        match holding.ends_by {
            Some(by) => (0, by),
            None => self.ends(holding.until),
        }
    }

    /// From when on no tick may be polled.
    pub(in crate::timer) fn drop_at(&self) -> Nanos {
        match &self.holding {
            Some(holding) if !holding.lost => self.limits(holding).1,
            _ => 0,
        }
    }

    /// What is to be done now. To be asked until there is nothing.
    pub(in crate::timer) fn command(&mut self, now: Nanos) -> Option<Command> {
        if let Some(command) = self.write(now) {
            self.writing = true;
            return Some(command);
        }
        self.forget(now);
        if self.asked_at.is_none() && now >= self.asks_at() {
            self.asked_at = Some(now);
            return Some(Command::Hold);
        }
        if self.waits && !self.waiting && !self.leaving {
            self.waiting = true;
            return Some(Command::Wait);
        }
        None
    }

    fn asks_at(&self) -> Nanos {
        let asks_at = match &self.holding {
            _ if self.leaving => NEVER,
            // It is to be forgotten, and asked for anew.
            Some(holding) if holding.is_over() && self.is_idle() => 0,
            Some(holding) if holding.lost => NEVER,
            Some(holding) => holding.renew_at,
            None if self.waits || self.running > 0 => NEVER,
            None => self.ask_at,
        };
        asks_at.max(self.not_before)
    }

    fn write(&self, now: Nanos) -> Option<Command> {
        let holding = self.holding.as_ref()?;
        if self.writing || holding.lost || now < self.write_at {
            return None;
        }
        let due = self.beginning.or(match self.terms.delivery {
            Delivery::AtLeastOnce => self.done().filter(|&due| self.recorded < Some(due)),
            Delivery::AtMostOnce => self.starting,
        });
        if let Some(due) = due {
            return Some(Command::Record(holding.token, due, self.counts()));
        }
        let leaves = self.leaving && self.running == 0 && self.asked_at.is_none();
        leaves.then_some(Command::Release(holding.token))
    }

    /// What counts as having run.
    fn counts(&self) -> Progress {
        match self.terms.delivery {
            Delivery::AtLeastOnce => Progress::Done,
            Delivery::AtMostOnce => Progress::Started,
        }
    }

    /// The newest due time up to which all are done.
    fn done(&self) -> Option<Nanos> {
        let open = self.open.keys().next().copied().unwrap_or(NEVER);
        let before = self.dealt_with.min(open);
        self.known.range(..before).next_back().copied()
    }

    /// A lease that is over is nothing any more, once no tick runs.
    fn forget(&mut self, now: Nanos) {
        let over = self.holding.as_ref().is_some_and(Holding::is_over);
        if over && self.is_idle() && self.asked_at.is_none() {
            self.holding = None;
            self.ask_at = now;
            self.clear();
        }
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && !self.writing
    }

    fn clear(&mut self) {
        self.open.clear();
        self.known.clear();
        self.dealt_with = 0;
        self.recorded = None;
        self.beginning = None;
        self.starting = None;
    }

    /// True if the lease has been taken, and due times count from now on: those after what was recorded last, or after
    /// that which it is told to [begin](Claim::begin) with.
    pub(in crate::timer) fn answered(&mut self, now: Nanos, answer: Answer) -> bool {
        let asked_at = self.asked_at.take().unwrap_or(now);
        self.not_before = now.saturating_add(ASK_AGAIN);
        let ttl = self.terms.ttl;
        match (answer, &mut self.holding) {
            (None, None) => self.ask_at = now.saturating_add(self.pause()),
            (None, Some(holding)) => {
                holding.renew_at = now.saturating_add((ttl / 15).clamp(10_000_000, 1_000_000_000));
            }
            (Some(None), None) => self.waits = true,
            (Some(None), Some(holding)) => holding.lost = true,
            (Some(Some(granted)), holding) => {
                let left = granted.left.min(ttl);
                let until = asked_at.saturating_add(left);
                let renew_at = asked_at.saturating_add(left / 3);
                let renew_at = if until == NEVER { NEVER } else { renew_at };
                match holding {
                    Some(held) if held.token == granted.token && !held.lost => {
                        held.until = held.until.max(until);
                        held.renew_at = renew_at;
                    }
                    // It was over in between, and ticks that were started before must not go on.
                    Some(held) => held.lost = true,
                    None => {
                        *holding = Some(Holding {
                            token: granted.token,
                            until,
                            renew_at,
                            ends_by: None,
                            lost: false,
                        });
                        self.clear();
                        return !self.leaving && self.standing(now) == Standing::Holds;
                    }
                }
            }
        }
        false
    }

    /// Nothing has been recorded of the lease: due times after this one count.
    pub(in crate::timer) fn begin(&mut self, at: Nanos) {
        self.beginning = Some(at);
    }

    /// It may be worth asking again.
    pub(in crate::timer) fn changed(&mut self, now: Nanos) {
        self.waits = false;
        self.waiting = false;
        self.ask_at = now;
    }

    /// Gives the due time whose tick may start now that it is recorded.
    pub(in crate::timer) fn recorded(
        &mut self,
        now: Nanos,
        due: Nanos,
        how: Recorded,
    ) -> Option<Nanos> {
        self.writing = false;
        match how {
            Recorded::Written => {
                self.recorded = self.recorded.max(Some(due));
                let recorded = self.recorded;
                self.known.retain(|&known| recorded < Some(known));
                let began = self.beginning.take_if(|at| *at == due).is_some();
                return match self.terms.delivery {
                    Delivery::AtLeastOnce => self.starting.take(),
                    Delivery::AtMostOnce if began => None,
                    Delivery::AtMostOnce => self.starting.take_if(|starting| *starting == due),
                };
            }
            Recorded::Stale => {
                if let Some(holding) = &mut self.holding {
                    holding.lost = true;
                }
            }
            Recorded::Failed => self.write_at = now.saturating_add(self.pause()),
        }
        None
    }

    pub(in crate::timer) fn released(&mut self) {
        self.writing = false;
        self.holding = None;
        self.clear();
    }

    /// A tick is to start. False if it has to wait for its record. One that doesn't `count` was asked for by hand: it has
    /// no due time that could be lost or repeated.
    pub(in crate::timer) fn start(&mut self, due: Nanos, counts: bool) -> bool {
        self.running += 1;
        if !counts {
            return true;
        }
        *self.open.entry(due).or_default() += 1;
        self.known.insert(due);
        let waits = self.terms.delivery == Delivery::AtMostOnce || self.beginning.is_some();
        if waits {
            self.starting = Some(due);
        }
        !waits
    }

    /// A tick has ended. One that was `cut` short is for the next holder to run again.
    pub(in crate::timer) fn ended(&mut self, due: Nanos, cut: bool) {
        self.running = self.running.saturating_sub(1);
        self.starting.take_if(|starting| *starting == due);
        if cut {
            return;
        }
        if let Some(count) = self.open.get_mut(&due) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&due);
            }
        }
    }

    /// `newest` has passed, and all before `dealt_with` have been dealt with, but for running ticks.
    pub(in crate::timer) fn passed(&mut self, newest: Option<Nanos>, dealt_with: Nanos) {
        self.dealt_with = self.dealt_with.max(dealt_with);
        if let Some(newest) = newest {
            self.known.insert(newest);
        }
    }

    /// The timer ends: the lease is given up once no tick runs.
    pub(in crate::timer) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Nothing is left to be told to the lease.
    pub(in crate::timer) fn has_left(&self) -> bool {
        self.leaving && self.holding.is_none() && self.asked_at.is_none() && !self.writing
    }

    /// When it has something to do again, if nothing happens before.
    pub(in crate::timer) fn wake_at(&self, now: Nanos) -> Nanos {
        let mut wake_at = NEVER;
        if self.asked_at.is_none() {
            wake_at = self.asks_at();
        }
        if let Some(holding) = &self.holding {
            if !holding.lost {
                let (ask_at, drop_at) = self.limits(holding);
                wake_at = wake_at.min(if holding.ends_by.is_none() {
                    ask_at
                } else {
                    drop_at
                });
            }
            if self.write_at > now {
                wake_at = wake_at.min(self.write_at);
            }
        }
        wake_at.max(now)
    }
}

impl Holding {
    fn is_over(&self) -> bool {
        self.lost || self.ends_by.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        ttl: 15_000_000_000,
        grace: 0,
        delivery: Delivery::AtLeastOnce,
    };

    /// How often it asks in a second that begins at `now`, of a store that answers at once.
    fn asks(claim: &mut Claim, mut now: Nanos, answer: Option<Granted>) -> usize {
        let (mut asked, until) = (0, now + 1_000_000_000);
        while now < until {
            let mut commands = 0;
            while let Some(command) = claim.command(now) {
                commands += 1;
                assert!(commands < 10, "it never comes to an end");
                match command {
                    Command::Hold => {
                        asked += 1;
                        claim.answered(now, Some(answer));
                    }
                    Command::Wait => claim.changed(now),
                    Command::Record(..) | Command::Release(_) => unreachable!(),
                }
            }
            claim.judge(now);
            now = claim.wake_at(now).max(now + 1);
        }
        asked
    }

    #[test]
    fn a_store_that_is_always_worth_asking_is_asked_now_and_then() {
        let asked = asks(&mut Claim::new(TERMS), 0, None);
        assert_eq!(asked, 100, "every 10 ms");
    }

    #[test]
    fn a_lease_that_is_granted_for_no_time_is_asked_for_now_and_then() {
        let granted = Granted {
            token: Token::new(1),
            left: 0,
        };
        let asked = asks(&mut Claim::new(TERMS), 0, Some(granted));
        assert_eq!(asked, 100, "every 10 ms");
    }
}
