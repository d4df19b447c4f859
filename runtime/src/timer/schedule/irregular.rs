//! Due times by a wall clock, which may be put forward and back: those of a calendar, or of a grid that several hosts
//! share. Times are nanoseconds since 1970 there.

use std::fmt;

use super::due::{NEVER, Nanos};

/// Where due times come from.
pub(in crate::timer) trait Dues: Send + fmt::Debug {
    /// The first one after `at`; [`NEVER`] if there is none.
    fn after(&mut self, at: Nanos) -> Nanos;

    /// How many there are after `after` up to `until`, in fewer steps than there are.
    fn count(&mut self, after: Nanos, until: Nanos) -> u64;

    /// Nobody has started any before `now`. Gives the time after which they count; one that is due now does.
    fn begin(&mut self, now: Nanos) -> Nanos {
        now.saturating_sub(1)
    }

    /// Somebody has dealt with those up to `last`.
    fn go_on(&mut self, last: Nanos) {
        let _ = last;
    }
}

const SECOND: Nanos = 1_000_000_000;

/// A due time that is later than this was passed over: a clock is looked at more often.
pub(super) const PASSED_OVER: Nanos = 90 * SECOND;

/// So many stretches of time are told apart in which ticks were started.
const STRETCHES: usize = 32;

#[derive(Debug)]
pub(super) struct Irregular {
    dues: Box<dyn Dues>,
    /// The clock when it was last looked at.
    seen: Nanos,
    /// The last due time that has passed.
    pub(super) newest: Option<Nanos>,
    /// From the first to the last due time that was started while the clock went on as clocks do. When it is put back,
    /// none of them is started again.
    started: Vec<(Nanos, Nanos)>,
    /// The clock has been put forward or back, or not been looked at for long, since a tick was last started.
    pub(super) jumped: bool,
}

impl Irregular {
    pub(super) fn new(dues: Box<dyn Dues>, now: Nanos) -> Irregular {
        Irregular {
            dues,
            seen: now,
            newest: None,
            started: Vec::new(),
            jumped: true,
        }
    }

    pub(super) fn after(&mut self, mut at: Nanos) -> Nanos {
        loop {
            at = self.dues.after(at);
            let had = |&&(from, to): &&(Nanos, Nanos)| (from..=to).contains(&at);
            match self.started.iter().find(had) {
                Some(&(_, to)) if at != NEVER => at = to,
                _ => return at,
            }
        }
    }

    /// A time after `after` up to which all may be left out, and how many these are: at least `most` come later up to
    /// `until`, and not many more.
    pub(super) fn leave_out(
        &mut self,
        after: Nanos,
        until: Nanos,
        most: u64,
    ) -> Option<(Nanos, u64)> {
        let mut span = SECOND;
        let (mut enough, mut fewer) = (until, until);
        while self.count(enough, until) < most {
            if enough <= after {
                return None;
            }
            fewer = enough;
            enough = until.saturating_sub(span).max(after);
            span = span.saturating_mul(2);
        }
        while self.count(enough, until) > 2 * most && fewer - enough > 1 {
            let middle = enough + (fewer - enough) / 2;
            if self.count(middle, until) >= most {
                enough = middle;
            } else {
                fewer = middle;
            }
        }
        let count = self.count(after, enough);
        (count > 0).then_some((enough, count))
    }

    /// How many there are after `after` up to `until` that haven't been started.
    fn count(&mut self, after: Nanos, until: Nanos) -> u64 {
        let mut started = self.started.clone();
        started.sort_unstable();
        let (mut at, mut count) = (after, 0);
        for (from, to) in started {
            let before = from.saturating_sub(1).min(until);
            if at < before {
                count += self.dues.count(at, before);
            }
            at = at.max(to);
        }
        if at < until {
            count += self.dues.count(at, until);
        }
        count
    }

    /// From now on those after `last` count, or after the time that this gives if there is none; also if they were
    /// started before.
    pub(super) fn open(&mut self, last: Option<Nanos>, now: Nanos) -> Nanos {
        let last = match last {
            Some(last) => {
                self.dues.go_on(last);
                last
            }
            None => self.dues.begin(now),
        };
        self.started.retain_mut(|(from, to)| {
            *to = last.min(*to);
            from <= to
        });
        self.jumped = true;
        self.newest = None;
        last
    }

    pub(super) fn is_due(&mut self, at: Nanos) -> bool {
        at > 0 && self.dues.after(at - 1) == at
    }

    /// A tick of this due time is started.
    pub(super) fn start(&mut self, due: Nanos) {
        let jumped = std::mem::take(&mut self.jumped);
        match self.started.last_mut() {
            Some((from, to)) if !jumped && *from <= due => *to = due.max(*to),
            _ => self.started.push((due, due)),
        }
        if self.started.len() > STRETCHES {
            self.started.sort_unstable();
            // The two that lie closest to each other become one.
            let gap = |at: &usize| self.started[at + 1].0.saturating_sub(self.started[*at].1);
            let closest = (0..self.started.len() - 1).min_by_key(gap).unwrap_or(0);
            let (_, to) = self.started.remove(closest + 1);
            let (_, until) = &mut self.started[closest];
            *until = to.max(*until);
            self.jumped = true;
        }
    }

    /// Looks at the clock. True if it has been put back.
    pub(super) fn look(&mut self, now: Nanos) -> bool {
        let put_back = now < self.seen;
        self.jumped |= put_back || now - self.seen > 2 * PASSED_OVER;
        self.seen = now;
        put_back
    }
}
