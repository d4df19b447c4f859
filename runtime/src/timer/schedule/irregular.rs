//! Due times by a wall clock, which may be put forward and back: those of a calendar, or of a grid that several hosts
//! share. Times are nanoseconds since 1970 there.

use std::fmt;

use super::due::{NEVER, Nanos};

/// Where due times come from.
pub(in crate::timer) trait Dues: Send + fmt::Debug {
    /// The first one after `at`; [`NEVER`] if there is none.
    fn after(&mut self, at: Nanos) -> Nanos;

    /// Nobody has started any before `now`. Gives the time after which they count; one that is due now does.
    fn begin(&mut self, now: Nanos) -> Nanos {
        now.saturating_sub(1)
    }

    /// Somebody has dealt with those up to `last`.
    fn go_on(&mut self, last: Nanos) {
        let _ = last;
    }
}

/// A due time that is later than this was passed over: a clock is looked at more often.
pub(super) const PASSED_OVER: Nanos = 90 * 1_000_000_000;

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

#[cfg(test)]
mod tests {
    use super::super::model::Known;
    use super::*;

    #[test]
    fn of_very_many_stretches_the_closest_become_one() {
        // Thirty-three, the newest first, of which two lie closer to each other.
        let starts = (0..33).rev().map(|nth| match nth {
            17 => 16_500,
            nth => nth * 1000,
        });
        for count in [32, 33] {
            let dues = (1..400).map(|due| due * 100).collect();
            let mut irregular = Irregular::new(Box::new(Known(dues)), 0);
            for due in starts.clone().skip(33 - count) {
                // It takes up the tick of one due time, and another.
                irregular.jumped = true;
                irregular.start(due + 100);
                irregular.start(due + 200);
            }
            let merged = count == 33;
            let mut at = 0;
            for due in (1..400).map(|due| due * 100) {
                let mut starts = starts.clone().skip(33 - count);
                let started = starts.any(|start| due == start + 100 || due == start + 200)
                    || merged && (16_100..=16_700).contains(&due);
                if !started {
                    at = irregular.after(at);
                    assert_eq!(at, due);
                }
            }
            assert_eq!(irregular.after(at), NEVER);
        }
    }

    #[test]
    fn what_follows_stretches_that_became_one_is_one_of_its_own() {
        let dues = (1..400).map(|due| due * 100).collect();
        let mut irregular = Irregular::new(Box::new(Known(dues)), 0);
        for due in (1..=33).map(|nth| nth * 1000) {
            irregular.jumped = true;
            irregular.start(due);
        }
        irregular.start(36_000);
        assert_eq!(irregular.after(33_000), 33_100);
        assert_eq!(irregular.after(35_900), 36_100);
    }
}
