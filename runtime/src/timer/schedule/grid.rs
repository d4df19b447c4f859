//! Which due times there are: a grid, or one delay after the other.

use super::due::{Due, NEVER, Nanos, Run};
use super::machine::{Cadence, Schedule};

impl Schedule {
    /// From `at` on due times count again, on the grid as it was.
    pub(in crate::timer) fn resume(&mut self, at: Nanos) {
        if !self.paused {
            return;
        }
        self.paused = false;
        if self.next_at < at {
            match self.cadence {
                Cadence::Grid => {
                    self.pass(at - 1);
                }
                Cadence::Delay => self.follow(at),
                Cadence::Clock => {
                    let next = self.irregular().map_or(NEVER, |dues| dues.after(at - 1));
                    self.set_next(next);
                }
            }
        }
    }

    /// The next tick is one new interval, longer than the jitter, after the last due time before `at`,
    /// and due at once when that has passed. `busy` ticks were running until now.
    pub(in crate::timer) fn set_interval(&mut self, interval: Nanos, at: Nanos, busy: usize) {
        if self.cadence == Cadence::Grid && self.wake_at() < at {
            let (points, _) = self.pass(at - 1);
            self.judge(points, false, busy);
        }
        if self.cadence == Cadence::Clock {
            return;
        }
        let last = self.last();
        self.interval = interval;
        let Some(last) = last else { return };
        let stays = match self.cadence {
            // The last due time is held back by jitter, and the next one follows it.
            Cadence::Grid => self.next.at < at && self.next_at >= at,
            // Of a delay that has run out only the tick is to come.
            _ => self.running > 0 || self.next_at < at,
        };
        if stays {
            // What is next is no longer one interval after it.
            self.rare().last = Some(last);
            return;
        }
        let intervals = match self.cadence {
            Cadence::Grid => (at.saturating_sub(last) / interval).max(1),
            _ => 1,
        };
        self.follow(last.saturating_add((intervals - 1).saturating_mul(interval)));
        if intervals > 1 {
            self.rare().last = Some(last);
        }
    }

    /// The next tick is due one interval after `at`, and the grid goes on from there. With [`Cadence::Delay`] the
    /// delay begins anew, unless a tick runs. `busy` ticks were running until now.
    pub(in crate::timer) fn reset(&mut self, at: Nanos, busy: usize) {
        match self.cadence {
            // One that jitter holds back is due all the same.
            Cadence::Grid if self.wake_at() != NEVER && self.next.at < at => {
                let (points, _) = self.pass(at - 1);
                self.judge(points, false, busy);
            }
            Cadence::Delay if self.running > 0 => return,
            Cadence::Clock => return,
            _ => {}
        }
        self.follow(at);
    }

    /// Makes the next tick due one interval after `last`.
    pub(super) fn follow(&mut self, last: Nanos) {
        self.anchored = true;
        self.next.at = last.saturating_add(self.interval);
        self.next_at = self.jittered(self.next.at);
        if self.next.at == NEVER {
            self.rare().last = Some(last);
        } else if let Some(rare) = &mut self.rare {
            rare.last = None;
        }
    }

    /// The last due time that has passed; with [`Cadence::Delay`] the end of the last tick.
    pub(super) fn last(&self) -> Option<Nanos> {
        if !self.anchored {
            return None;
        }
        let odd = self.rare.as_ref().and_then(|rare| rare.last);
        odd.or_else(|| self.next.at.checked_sub(self.interval))
    }

    pub(super) fn jittered(&mut self, at: Nanos) -> Nanos {
        match &mut self.rare {
            Some(rare) if rare.jitter > 0 && at != NEVER => {
                at.saturating_add(rare.rng.u64(..rare.jitter))
            }
            Some(rare) => at.saturating_add(rare.shift),
            _ => at,
        }
    }

    /// Takes the only due time that took effect up to `now` off, and gives when it did. `None` if there may be more.
    pub(super) fn pass_one(&mut self, now: Nanos) -> Option<(Due, Nanos)> {
        let passed = (self.next, self.next_at);
        match self.cadence {
            Cadence::Grid if now - self.next.at < self.interval => self.follow(self.next.at),
            Cadence::Delay => self.next_at = NEVER,
            Cadence::Grid | Cadence::Clock => return None,
        }
        self.next.index += 1;
        Some(passed)
    }

    /// Takes the due times that took effect up to `now`, of which there is at least one, off the grid.
    /// Also gives when the newest took effect.
    pub(super) fn pass(&mut self, now: Nanos) -> (Run, Nanos) {
        if let Some((due, at)) = self.pass_one(now) {
            return (Run::one(due), at);
        }
        if self.cadence == Cadence::Clock {
            return self.pass_irregular(now);
        }
        let mut points = Run {
            first: self.next,
            step: self.interval,
            count: 1 + (now - self.next.at) / self.interval,
            times: None,
        };
        // All but the newest have taken effect: jitter is shorter than the interval.
        let newest = points.newest();
        let newest_at = self.jittered(newest.at);
        if newest_at > now {
            self.next = newest;
            self.next_at = newest_at;
            points.count -= 1;
            self.anchored = true;
            self.rare().last = None;
            // Some time before the grid point after it.
            return (points, self.next.at - 1);
        }
        self.next.index = newest.index + 1;
        self.follow(newest.at);
        (points, newest_at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Action, Dropped};
    use super::super::policy::{Missed, Overlap};
    use super::*;

    const MS: Nanos = 1_000_000;
    const YEAR: Nanos = 365 * 24 * 3600 * 1000 * MS;

    /// Starts what is to start at `now`, each of which ends at once.
    fn run(schedule: &mut Schedule, now: Nanos) -> Vec<Due> {
        let mut started = Vec::new();
        while let Some(action) = schedule.act(now) {
            match action {
                Action::Start { due, .. } => started.push(due),
                Action::Cancel { .. } => {}
            }
            schedule.ended(now, 1, true);
        }
        started
    }

    #[test]
    fn a_year_of_ticks_ends_on_the_nanosecond() {
        let interval = 33_333_333_333;
        let mut schedule = Schedule::every(interval, Overlap::Skip, Missed::Coalesce, 0);
        let mut ticks = 0;
        while schedule.wake_at() < YEAR {
            // Woken a millisecond late, as tokio does.
            let now = schedule.wake_at() + 999_999;
            schedule.advance(now, 0);
            let started = run(&mut schedule, now);
            let due = Due {
                index: ticks,
                at: ticks * interval,
            };
            assert_eq!(started, [due]);
            ticks += 1;
        }
        assert_eq!(ticks, YEAR.div_ceil(interval));
        assert_eq!(schedule.take_dropped(), Dropped::default());
    }

    #[test]
    fn the_clock_ends_before_the_arithmetic_does() {
        for interval in [1, MS, YEAR, NEVER / 2, NEVER - 1, NEVER] {
            let mut schedule = Schedule::every(interval, Overlap::Queue(3), Missed::Burst(3), 0);
            for now in [0, YEAR, NEVER / 2 + 1, NEVER - 2, NEVER - 1] {
                schedule.advance(now, 0);
                for due in run(&mut schedule, now) {
                    assert!(due.at <= now && due.at == due.index * interval);
                }
            }
            schedule.set_interval(NEVER, NEVER - 1, 0);
            schedule.set_interval(1, NEVER - 1, 0);
            assert!(schedule.wake_at() >= NEVER - 1);
        }
    }

    #[test]
    fn an_interval_that_lasts_beyond_the_clock_is_forgotten_for_a_shorter_one() {
        let mut schedule = Schedule::every(100, Overlap::Skip, Missed::Coalesce, 0);
        for now in [0, 100] {
            schedule.advance(now, 0);
            run(&mut schedule, now);
        }
        schedule.set_interval(NEVER, 150, 0);
        assert_eq!(schedule.wake_at(), NEVER);
        schedule.set_interval(100, 160, 0);
        assert_eq!(schedule.wake_at(), 200);
    }

    #[test]
    fn jitter_stays_within_its_bound_and_off_the_grid() {
        let mut schedule = Schedule::every(100, Overlap::Skip, Missed::Coalesce, 99);
        let mut shifts = [0; 99];
        for index in 0..100_000 {
            let now = schedule.wake_at();
            shifts[(now - index * 100) as usize] += 1;
            schedule.advance(now, 0);
            let due = Due {
                index,
                at: index * 100,
            };
            assert_eq!(run(&mut schedule, now), [due]);
        }
        assert!(
            shifts.iter().all(|&count| (800..1220).contains(&count)),
            "{shifts:?}"
        );
    }

    #[test]
    fn a_due_time_held_back_by_jitter_outlives_a_new_interval() {
        let mut schedule = Schedule::every(100, Overlap::Skip, Missed::Coalesce, 99);
        for interval in [1000, 100].repeat(20) {
            let due = schedule.next;
            let held_back_to = schedule.wake_at();
            schedule.set_interval(interval, held_back_to.min(due.at + 1), 0);
            assert_eq!(schedule.wake_at(), held_back_to);
            schedule.advance(held_back_to, 0);
            assert_eq!(run(&mut schedule, held_back_to), [due]);
            assert_eq!(schedule.next.at, due.at + interval);
        }
    }
}
