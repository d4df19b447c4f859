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
        let Some(irregular) = self.irregular() else {
            return;
        };
        if irregular.look(now) {
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

    /// Whether it is a due time, not one at which a tick was asked for by hand.
    pub(in crate::timer) fn is_due(&mut self, at: Nanos) -> bool {
        self.irregular()
            .is_none_or(|irregular| irregular.is_due(at))
    }

    /// The last due time that has passed since they were opened.
    pub(in crate::timer) fn newest_passed(&self) -> Option<Nanos> {
        self.irregular.as_ref()?.newest
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
            irregular.newest = Some(last);
            irregular.after(last)
        });
        self.interval = next.saturating_sub(last);
        self.next.index += 1;
        self.set_next(next);
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Action, Rules};
    use super::super::model::Known;
    use super::super::policy::{Missed, Overlap};
    use super::*;

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
            let mut schedule = Schedule::by_clock(rules, Box::new(dues), 5, 0);
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
