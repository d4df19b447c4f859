//! Due times by a wall clock: how they pass.

use std::sync::Arc;

use super::due::{Due, NEVER, Nanos, Run};
use super::irregular::Irregular;
use super::machine::{Cadence, Schedule};

/// So many of the due times that have passed at once are told apart, the newest.
const MOST: usize = 1024;

impl Schedule {
    /// Looks at the clock, which may have been put back.
    pub(in crate::timer) fn look(&mut self, now: Nanos) {
        if self.cadence != Cadence::Clock {
            return;
        }
        let next = self.next.at;
        let Some(irregular) = self.irregular() else {
            return;
        };
        // One that is due, and held back by its jitter, stays so.
        if irregular.look(now) && next > now {
            let next = irregular.after(now);
            self.set_next(next);
        }
    }

    /// From now on nothing is due until [`open`](Schedule::open): it is for another to start what is. What waits is
    /// dropped, and not counted.
    pub(in crate::timer) fn close(&mut self) {
        self.closed = true;
        self.pending = Default::default();
        if let Some(rare) = &mut self.rare {
            rare.triggered = 0;
            rare.replay = Run::default();
        }
    }

    /// Due times count again. Those after `last` that have passed are missed; without one, those from `now` on count.
    /// Gives the time after which they do.
    pub(in crate::timer) fn open(&mut self, last: Option<Nanos>, now: Nanos) -> Nanos {
        self.closed = false;
        let Some(irregular) = self.irregular() else {
            return now;
        };
        let last = irregular.open(last, now);
        let next = irregular.after(last);
        self.set_next(next);
        last
    }

    /// Whether all up to `last` have been dealt with though more than one of them is yet to come: clocks differ.
    pub(in crate::timer) fn is_ahead(&mut self, last: Nanos, now: Nanos) -> bool {
        self.irregular()
            .is_some_and(|irregular| irregular.after(now) < last)
    }

    /// Whether it is a due time, not one at which a tick was asked for by hand.
    pub(in crate::timer) fn is_due(&mut self, at: Nanos) -> bool {
        self.irregular()
            .is_none_or(|irregular| irregular.is_due(at))
    }

    /// The last due time that has passed since they were opened.
    pub(in crate::timer) fn newest_passed(&self) -> Option<Nanos> {
        self.irregular.as_ref()?.newest()
    }

    pub(in crate::timer) fn is_closed(&self) -> bool {
        self.closed
    }

    /// All due times before this one are dealt with, but for those whose ticks run.
    pub(in crate::timer) fn dealt_with(&self) -> Nanos {
        let replay = self.rare.as_ref().map(|rare| &rare.replay);
        let replay = replay.filter(|replay| replay.count > 0);
        let replay = replay.map_or(NEVER, |replay| replay.first.at);
        self.pending.oldest_at().min(replay).min(self.next.at)
    }

    pub(super) fn irregular(&mut self) -> Option<&mut Irregular> {
        self.irregular.as_deref_mut()
    }

    pub(super) fn set_next(&mut self, at: Nanos) {
        self.next.at = at;
        self.next_at = self.jittered(at);
    }

    /// As `pass` of a grid, for due times that have to be found one by one.
    pub(super) fn pass_irregular(&mut self, now: Nanos) -> (Run, Nanos) {
        let first = self.next;
        let mut newest_at = self.next_at;
        self.pass_one_irregular();
        if self.next_at > now || self.next.at == NEVER {
            return (Run::one(first), newest_at);
        }
        let (mut times, mut dropped) = (vec![first.at], 0);
        while self.next_at <= now && self.next.at != NEVER {
            if times.len() == 2 * MOST {
                times.drain(..MOST);
                dropped += MOST as u64;
                let left_out = self.leave_out(now);
                if left_out > 0 {
                    dropped += left_out + times.len() as u64;
                    times.clear();
                    continue;
                }
            }
            newest_at = self.next_at;
            times.push(self.next.at);
            self.pass_one_irregular();
        }
        let surplus = times.len().saturating_sub(MOST);
        times.drain(..surplus);
        dropped += surplus as u64;
        self.drop_missed(dropped);
        let points = Run {
            first: Due {
                index: first.index + dropped,
                at: times[0],
            },
            step: 0,
            count: times.len() as u64,
            times: Some((Arc::from(times), 0)),
        };
        (points, newest_at)
    }

    fn pass_one_irregular(&mut self) {
        let last = self.next.at;
        let next = self.irregular().map_or(NEVER, |irregular| {
            irregular.pass(last);
            irregular.after(last)
        });
        self.interval = next.saturating_sub(last);
        self.next.index += 1;
        self.set_next(next);
    }

    /// Goes on to about the newest [`MOST`] due times that have taken effect. Gives how many are left out: a clock that is
    /// put forward by years is not to hold the runtime while they are gone through.
    fn leave_out(&mut self, now: Nanos) -> u64 {
        let rare = self.rare.as_ref();
        let latest = rare.map_or(0, |rare| rare.jitter.max(rare.shift));
        let after = self.next.at.saturating_sub(1);
        let Some(irregular) = self.irregular() else {
            return 0;
        };
        let left_out = irregular.leave_out(after, now.saturating_sub(latest), MOST as u64);
        let Some((until, count)) = left_out else {
            return 0;
        };
        let next = irregular.after(until);
        self.next.index += count;
        self.set_next(next);
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::super::irregular::Dues;
    use super::super::machine::{Action, Rules};
    use super::super::model::Known;
    use super::super::policy::{Missed, Overlap};
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const MINUTE: Nanos = 60 * SECOND;

    /// Whole intervals since 1970.
    #[derive(Debug)]
    struct Whole {
        interval: Nanos,
        asked: Arc<AtomicU64>,
        countable: bool,
    }

    impl Dues for Whole {
        fn after(&mut self, at: Nanos) -> Nanos {
            self.asked.fetch_add(1, Relaxed);
            (at / self.interval + 1) * self.interval
        }

        fn count(&mut self, after: Nanos, until: Nanos) -> u64 {
            self.asked.fetch_add(1, Relaxed);
            match self.countable {
                true => until / self.interval - after / self.interval,
                false => 0,
            }
        }
    }

    fn every(interval: Nanos, missed: Missed, jitter: Nanos, now: Nanos) -> Schedule {
        counted(interval, missed, jitter, now, true).0
    }

    fn counted(
        interval: Nanos,
        missed: Missed,
        jitter: Nanos,
        now: Nanos,
        countable: bool,
    ) -> (Schedule, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let dues = Whole {
            interval,
            asked: Arc::clone(&asked),
            countable,
        };
        let rules = Rules {
            cadence: Cadence::Clock,
            overlap: Overlap::Skip,
            missed,
            jitter,
            shift: 0,
        };
        (
            Schedule::by_clock(rules, Box::new(Irregular::new(dues, now)), now, 7),
            asked,
        )
    }

    #[test]
    fn years_that_are_passed_over_are_not_gone_through() {
        let (interval, year) = (SECOND / 100, 365 * 24 * 60 * MINUTE);
        for missed in [Missed::Coalesce, Missed::Skip, Missed::Burst(5000)] {
            let (mut schedule, asked) = counted(interval, missed, 0, 0, true);
            schedule.look(year);
            schedule.advance(year, 0);
            let steps = asked.load(Relaxed);
            assert!(steps < 10_000, "{steps} steps");
            let all = year / interval;
            let kept = match missed {
                Missed::Coalesce => 1,
                Missed::Skip => 0,
                Missed::Burst(_) => MOST as u64,
            };
            assert_eq!(schedule.take_dropped().missed, all - kept);
            assert_eq!(
                schedule.next,
                Due {
                    index: all,
                    at: year + interval
                }
            );
            assert_eq!(schedule.newest_passed(), Some(year));
            let oldest = Due {
                index: all - kept,
                at: year - kept.saturating_sub(1) * interval,
            };
            let start = (kept > 0).then_some(Action::Start {
                due: oldest,
                missed: all - kept,
            });
            assert_eq!(schedule.act(year), start);
        }
    }

    /// Whether those that have passed are counted or gone through makes no difference, also beside some that were started
    /// before the clock was put back.
    #[test]
    fn what_is_left_out_is_counted() {
        for (back, forward) in [(0, 5000), (300, 9000), (2500, 4000), (2500, 2510)] {
            let told = [true, false].map(|countable| {
                let missed = Missed::Burst(2000);
                let (mut schedule, _) = counted(MINUTE, missed, 0, 0, countable);
                let mut now = 3000 * MINUTE;
                for _ in 0..20 {
                    now += MINUTE;
                    schedule.look(now);
                    schedule.advance(now, 0);
                    while schedule.act(now).is_some() {
                        schedule.ended(now, 1, true);
                    }
                }
                schedule.look(now - back * MINUTE);
                now += (forward - back) * MINUTE;
                schedule.look(now);
                schedule.advance(now, 0);
                let dropped = schedule.take_dropped();
                let replay = &schedule.rare().replay;
                let (first, newest) = (replay.first, replay.newest());
                (
                    dropped,
                    first,
                    newest,
                    schedule.next,
                    schedule.newest_passed(),
                )
            });
            assert_eq!(told[0], told[1], "back by {back}");
        }
    }

    #[test]
    fn none_is_left_out_that_jitter_may_hold_back() {
        let jitter = 30 * MINUTE;
        let mut schedule = every(MINUTE, Missed::Burst(2000), jitter, 0);
        let now = 20_000 * MINUTE;
        schedule.look(now);
        schedule.advance(now, 0);
        let next = schedule.next;
        assert!(next.at > now - jitter && schedule.wake_at() > now);
        assert_eq!((next.index + 1) * MINUTE, next.at);
        let newest = schedule.rare().replay.newest();
        assert_eq!((newest.index + 1) * MINUTE, newest.at);
        assert_eq!(newest.index + 1, next.index);
    }

    #[test]
    fn a_due_time_that_jitter_holds_back_outlives_a_clock_that_is_put_back() {
        let (day, jitter) = (24 * 60 * MINUTE, 10 * MINUTE);
        let mut schedule = every(day, Missed::Coalesce, jitter, day - 1);
        let due = schedule.next;
        let starts_at = schedule.wake_at();
        assert!(
            due.at == day && starts_at > day + MINUTE,
            "drawn by the seed"
        );
        for now in [starts_at - 1, day + 1, day] {
            schedule.look(now);
            schedule.advance(now, 0);
            assert_eq!(schedule.act(now), None);
            assert_eq!((schedule.next, schedule.wake_at()), (due, starts_at));
        }
        // Before its time it is due anew.
        schedule.look(day - MINUTE);
        schedule.advance(day - MINUTE, 0);
        assert_eq!(schedule.next, due);
        let now = schedule.wake_at();
        schedule.look(now);
        schedule.advance(now, 0);
        assert_eq!(schedule.act(now), Some(Action::Start { due, missed: 0 }));
        assert_eq!(schedule.take_dropped(), Default::default());
        assert_eq!(schedule.next.at, 2 * day);
    }

    #[test]
    fn what_is_recorded_may_lie_ahead_by_more_than_clocks_differ() {
        let mut schedule = every(MINUTE, Missed::Coalesce, 0, 0);
        let now = 100 * MINUTE + 1;
        assert!(!schedule.is_ahead(100 * MINUTE, now));
        assert!(!schedule.is_ahead(101 * MINUTE, now));
        assert!(schedule.is_ahead(102 * MINUTE, now));
    }

    #[test]
    fn the_newest_of_very_many_are_told_apart() {
        for count in [2, 1023, 1024, 1025, 2048, 2049, 3072, 5000] {
            let rules = Rules {
                cadence: Cadence::Clock,
                overlap: Overlap::Skip,
                missed: Missed::Burst(usize::MAX),
                jitter: 0,
                shift: 0,
            };
            let dues = Known((1..=count).map(|due| due * 10).collect());
            let mut schedule = Schedule::by_clock(rules, Box::new(Irregular::new(dues, 5)), 5, 0);
            schedule.advance(count * 10, 0);
            let dropped = count.saturating_sub(MOST as u64);
            assert_eq!(schedule.take_dropped().missed, dropped);
            for index in dropped..count {
                let due = Due {
                    index,
                    at: (index + 1) * 10,
                };
                let missed = if index == dropped { dropped } else { 0 };
                assert_eq!(schedule.act(NEVER), Some(Action::Start { due, missed }));
                schedule.ended(NEVER, 1, true);
            }
            assert_eq!(schedule.act(NEVER), None);
            assert_eq!((schedule.next.index, schedule.next.at), (count, NEVER));
        }
    }
}
