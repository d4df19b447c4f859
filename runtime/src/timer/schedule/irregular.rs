//! Due times by a wall clock, which may be put forward and back: those of a calendar, or of a grid that several hosts
//! share. Times are nanoseconds since 1970 there.

use std::{fmt, iter};

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

/// With those that it asks in one piece: thousands of timers that are due together cost the memory that they miss.
/// With a calendar that is 88 bytes, so that such timers, too, lie at equal distances.
#[derive(Debug)]
pub(in crate::timer) struct Irregular<D: ?Sized = dyn Dues> {
    /// The clock when it was last looked at.
    seen: Nanos,
    /// The last due time that has passed; [`NEVER`] if none has.
    newest: Nanos,
    /// Due times that were started: when the clock is put back, none of them is started again.
    started: Stretch,
    /// Those of before the clock was put forward or back.
    earlier: Option<Box<Earlier>>,
    /// The clock has been put forward or back, or not been looked at for long, since a tick was last started.
    pub(super) jumped: bool,
    dues: D,
}

/// From the first to the last due time that was started while the clock went on as clocks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    from: Nanos,
    to: Nanos,
}

/// The stretches of timers whose clock has ever been put forward or back.
#[derive(Debug, Default)]
struct Earlier(Vec<Stretch>);

impl Stretch {
    const NONE: Stretch = Stretch { from: NEVER, to: 0 };

    fn has(self, at: Nanos) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// What is left of it if nothing was started after `last`.
    fn up_to(self, last: Nanos) -> Option<Stretch> {
        let to = last.min(self.to);
        (self.from <= to).then_some(Stretch { to, ..self })
    }
}

impl<D: Dues> Irregular<D> {
    pub(in crate::timer) fn new(dues: D, now: Nanos) -> Irregular<D> {
        Irregular {
            seen: now,
            newest: NEVER,
            started: Stretch::NONE,
            earlier: None,
            jumped: true,
            dues,
        }
    }
}

impl Irregular {
    pub(super) fn newest(&self) -> Option<Nanos> {
        (self.newest != NEVER).then_some(self.newest)
    }

    /// The due time `at` has passed.
    pub(super) fn pass(&mut self, at: Nanos) {
        self.newest = at;
    }

    /// The newest first.
    fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        let earlier = self.earlier.iter().flat_map(|earlier| &earlier.0);
        iter::once(&self.started).chain(earlier)
    }

    pub(super) fn after(&mut self, mut at: Nanos) -> Nanos {
        loop {
            at = self.dues.after(at);
            if at == NEVER {
                return at;
            }
            match self.stretches().find(|stretch| stretch.has(at)) {
                Some(stretch) => at = stretch.to,
                None => return at,
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
        let mut started: Vec<Stretch> = self.stretches().copied().collect();
        started.retain(|stretch| *stretch != Stretch::NONE);
        started.sort_unstable();
        let (mut at, mut count) = (after, 0);
        for Stretch { from, to } in started {
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
        self.started = self.started.up_to(last).unwrap_or(Stretch::NONE);
        if let Some(Earlier(stretches)) = self.earlier.as_deref_mut() {
            let kept = stretches.iter().filter_map(|stretch| stretch.up_to(last));
            *stretches = kept.collect();
        }
        self.jumped = true;
        self.newest = NEVER;
        last
    }

    pub(super) fn is_due(&mut self, at: Nanos) -> bool {
        at > 0 && self.dues.after(at - 1) == at
    }

    /// A tick of this due time is started.
    pub(super) fn start(&mut self, due: Nanos) {
        let jumped = std::mem::take(&mut self.jumped);
        if !jumped && self.started.from <= due {
            self.started.to = due.max(self.started.to);
            return;
        }
        let new = Stretch { from: due, to: due };
        let before = std::mem::replace(&mut self.started, new);
        if before != Stretch::NONE {
            self.earlier.get_or_insert_default().0.push(before);
        }
        let Some(Earlier(stretches)) = self.earlier.as_deref_mut() else {
            return;
        };
        if stretches.len() >= STRETCHES {
            stretches.push(std::mem::replace(&mut self.started, Stretch::NONE));
            stretches.sort_unstable();
            // The two that lie closest to each other become one.
            let gap = |at: &usize| stretches[at + 1].from.saturating_sub(stretches[*at].to);
            let closest = (0..stretches.len() - 1).min_by_key(gap).unwrap_or(0);
            let Stretch { to, .. } = stretches.remove(closest + 1);
            stretches[closest].to = to.max(stretches[closest].to);
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
    use std::collections::BTreeSet;

    use super::super::model::Known;
    use super::*;

    #[derive(Debug)]
    struct Tens;

    impl Dues for Tens {
        fn after(&mut self, at: Nanos) -> Nanos {
            (at / 10 + 1) * 10
        }

        fn count(&mut self, after: Nanos, until: Nanos) -> u64 {
            until / 10 - after / 10
        }
    }

    #[test]
    fn no_due_time_is_started_twice_however_often_the_clock_is_put_back() {
        let mut random = fastrand::Rng::with_seed(7);
        let irregular: &mut Irregular = &mut Irregular::new(Tens, 0);
        let (mut now, mut started) = (0, BTreeSet::new());
        for _ in 0..10_000 {
            if random.u8(..) < 20 {
                now = random.u64(..20_000);
            }
            irregular.look(now);
            now = irregular.after(now);
            assert!(started.insert(now), "{now} is started again");
            irregular.start(now);
        }
        let earlier = irregular.earlier.as_ref().map(|earlier| earlier.0.len());
        assert!(earlier <= Some(STRETCHES));
        assert!(earlier > Some(STRETCHES / 2));
    }

    #[test]
    fn of_very_many_stretches_the_closest_become_one() {
        // Thirty-three, the newest first, of which two lie closer to each other.
        let starts = (0..33).rev().map(|nth| match nth {
            17 => 16_500,
            nth => nth * 1000,
        });
        for count in [32, 33] {
            let dues = (1..400).map(|due| due * 100).collect();
            let irregular: &mut Irregular = &mut Irregular::new(Known(dues), 0);
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
        let irregular: &mut Irregular = &mut Irregular::new(Known(dues), 0);
        for due in (1..=33).map(|nth| nth * 1000) {
            irregular.jumped = true;
            irregular.start(due);
        }
        irregular.start(36_000);
        assert_eq!(irregular.after(33_000), 33_100);
        assert_eq!(irregular.after(35_900), 36_100);
    }
}
