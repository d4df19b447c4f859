//! The state of a timer: what is to be done now with the due times that have passed, and with those that wait.

use super::due::{Due, Fifo, NEVER, Nanos, Run};
use super::irregular::{Irregular, PASSED_OVER};
use super::policy::{Missed, Overlap};

/// What doesn't change while the timer lives.
#[derive(Clone, Copy, Debug)]
pub(in crate::timer) struct Rules {
    pub(in crate::timer) cadence: Cadence,
    pub(in crate::timer) overlap: Overlap,
    pub(in crate::timer) missed: Missed,
    /// Each start is shifted by less than this, which is less than the interval.
    pub(in crate::timer) jitter: Nanos,
    /// Each start is shifted by this, instead.
    pub(in crate::timer) shift: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) enum Cadence {
    /// Due times lie on a grid, whatever the ticks do.
    Grid,
    /// The next due time is one interval after the end of the last tick.
    Delay,
    /// Due times are those of a calendar, and times those of a wall clock.
    Clock,
}

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) enum Action {
    Start {
        due: Due,
        /// Due times missed since the last start.
        missed: u64,
    },
    /// Ask the running tick to end: a due one is to take its place. `starved` is set when it is the
    /// tenth in a row to end so.
    Cancel { starved: bool },
}

/// Replacements in a row, with no tick completed, that are worth a warning.
pub(in crate::timer) const STARVED: u32 = 10;

/// What a timer with default options touches at each tick comes first, and is small: with thousands of
/// timers a tick costs as much as the memory that it misses.
#[derive(Debug)]
#[repr(C)]
pub(in crate::timer) struct Schedule {
    pub(super) interval: Nanos,
    /// The first due time that hasn't been dealt with, and when it takes effect after jitter.
    pub(super) next: Due,
    pub(super) next_at: Nanos,
    /// The next due time has one before it, an interval earlier.
    pub(super) anchored: bool,
    pub(super) cadence: Cadence,
    pub(super) paused: bool,
    /// Another starts what is due.
    pub(super) closed: bool,
    /// The running tick was asked to end by [`Action::Cancel`].
    pub(super) ending: bool,
    /// Ticks are being skipped at the cap of [`Overlap::ALLOW`].
    pub(super) crowded: bool,
    pub(super) overlap: Policy,
    /// That of the policy, if it has one.
    pub(super) bound: u32,
    pub(super) running: u32,
    /// Due ticks that wait for a place.
    pub(super) pending: Fifo,
    /// Present once needed.
    pub(super) rare: Option<Box<Rare>>,
    /// Present with [`Cadence::Clock`].
    pub(super) irregular: Option<Box<Irregular>>,
}

/// [`Overlap`] without its bound, which would take up eight bytes for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Skip,
    Allow,
    Wait,
    Queue,
    Cancel,
}

#[derive(Debug)]
pub(super) struct Rare {
    pub(super) missed_policy: Missed,
    pub(super) jitter: Nanos,
    pub(super) shift: Nanos,
    pub(super) rng: fastrand::Rng,
    /// Missed due times still to be replayed.
    pub(super) replay: Run,
    /// Ticks asked for by hand, off the grid.
    pub(super) triggered: u64,
    /// Replacements in a row.
    pub(super) replaced: u32,
    pub(super) missed_since_start: u64,
    pub(super) dropped: Dropped,
    /// The last due time, when it isn't one interval before the next.
    pub(super) last: Option<Nanos>,
}

/// Due times that passed without a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::timer) struct Dropped {
    pub(in crate::timer) skipped: u64,
    pub(in crate::timer) missed: u64,
}

impl Schedule {
    /// The first tick is due at `first`. `interval` isn't zero. `seed` decides on the jitter.
    pub(in crate::timer) fn new(
        rules: Rules,
        interval: Nanos,
        first: Nanos,
        seed: u64,
    ) -> Schedule {
        let Rules {
            cadence,
            overlap,
            missed,
            jitter,
            shift,
        } = rules;
        let bounded = |bound| u32::try_from(bound).unwrap_or(u32::MAX);
        let (overlap, bound) = match overlap {
            Overlap::Skip => (Policy::Skip, 0),
            Overlap::Allow(cap) => (Policy::Allow, bounded(cap)),
            Overlap::Wait => (Policy::Wait, 0),
            Overlap::Queue(most) => (Policy::Queue, bounded(most)),
            Overlap::Cancel => (Policy::Cancel, 0),
        };
        let mut schedule = Schedule {
            interval,
            next: Due {
                index: 0,
                at: first,
            },
            next_at: first,
            anchored: false,
            cadence,
            paused: false,
            closed: false,
            ending: false,
            crowded: false,
            overlap,
            bound,
            running: 0,
            pending: Fifo::default(),
            rare: None,
            irregular: None,
        };
        if missed != Missed::default() || jitter > 0 || shift > 0 {
            let rare = schedule.rare();
            rare.missed_policy = missed;
            rare.jitter = jitter;
            rare.shift = shift;
            rare.rng = fastrand::Rng::with_seed(seed);
            schedule.next_at = schedule.jittered(first);
        }
        schedule
    }

    /// By a wall clock, which shows `now`: the first tick is that of the first due time after it.
    pub(in crate::timer) fn by_clock(
        rules: Rules,
        irregular: Box<Irregular>,
        now: Nanos,
        seed: u64,
    ) -> Schedule {
        let mut schedule = Schedule::new(rules, NEVER, NEVER, seed);
        let first = schedule.irregular.insert(irregular).after(now);
        schedule.set_next(first);
        schedule
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| {
            Box::new(Rare {
                missed_policy: Missed::default(),
                jitter: 0,
                shift: 0,
                rng: fastrand::Rng::with_seed(0),
                replay: Run::default(),
                triggered: 0,
                replaced: 0,
                missed_since_start: 0,
                dropped: Dropped::default(),
                last: None,
            })
        })
    }

    /// What was dropped since the last call.
    pub(in crate::timer) fn take_dropped(&mut self) -> Dropped {
        match &mut self.rare {
            Some(rare) => std::mem::take(&mut rare.dropped),
            None => Dropped::default(),
        }
    }

    pub(super) fn skip(&mut self, count: u64) {
        if count > 0 {
            self.rare().dropped.skipped += count;
        }
    }

    pub(super) fn drop_missed(&mut self, count: u64) {
        if count > 0 {
            let rare = self.rare();
            rare.dropped.missed += count;
            rare.missed_since_start += count;
        }
    }

    /// How many ticks may run at once.
    pub(super) fn places(&self) -> usize {
        match self.overlap {
            Policy::Allow => self.bound as usize,
            _ => 1,
        }
    }

    /// When [`advance`](Schedule::advance) has something to do at the earliest.
    pub(in crate::timer) fn wake_at(&self) -> Nanos {
        if self.paused || self.closed {
            NEVER
        } else {
            self.next_at
        }
    }

    /// When the next tick is due that is known, on the grid.
    pub(in crate::timer) fn next_due(&self) -> Nanos {
        if self.wake_at() == NEVER {
            NEVER
        } else {
            self.next.at
        }
    }

    pub(in crate::timer) fn running(&self) -> usize {
        self.running as usize
    }

    /// As many ticks run as an `overlap = allow` without a number lets, and another was due.
    pub(in crate::timer) fn crowded(&self) -> bool {
        self.crowded
    }

    /// Times are those of a wall clock.
    pub(in crate::timer) fn goes_by_clock(&self) -> bool {
        self.cadence == Cadence::Clock
    }

    pub(in crate::timer) fn interval(&self) -> Nanos {
        self.interval
    }

    /// Several ticks may run at once.
    pub(in crate::timer) fn is_concurrent(&self) -> bool {
        self.places() > 1
    }

    /// `count` ticks were found to have ended at `now`; `completed` tells whether one of them came to
    /// its own end.
    pub(in crate::timer) fn ended(&mut self, now: Nanos, count: usize, completed: bool) {
        self.running -= count as u32;
        if let (true, Some(rare)) = (completed, &mut self.rare) {
            rare.replaced = 0;
        }
        if self.running == 0 {
            self.ending = false;
            if self.cadence == Cadence::Delay {
                self.follow(now);
            }
        }
    }

    /// Deals with the due times up to `now`, of which the last call didn't know. `busy` ticks were
    /// running until now.
    pub(in crate::timer) fn advance(&mut self, now: Nanos, busy: usize) {
        if now < self.wake_at() {
            return;
        }
        if let Some((due, at)) = self.pass_one(now) {
            // A tick that ended at the very instant of a due time has made room for it.
            let occupied = if at == now { self.running() } else { busy };
            self.admit_one(due, occupied);
        } else {
            let (points, newest_at) = self.pass(now);
            let passed_over = self.cadence == Cadence::Clock && now - newest_at > PASSED_OVER;
            if busy == 0 && passed_over {
                self.miss(points);
            } else {
                self.judge(points, newest_at == now, busy);
            }
        }
    }

    /// Whether [`act`](Schedule::act) may have something to do.
    pub(in crate::timer) fn has_to_act(&self) -> bool {
        if !self.pending.is_empty() {
            let replaces = self.overlap == Policy::Cancel && !self.ending;
            if replaces || self.running() < self.places() {
                return true;
            }
        }
        let rare = self.rare.as_ref();
        rare.is_some_and(|rare| rare.replay.count > 0 || rare.triggered > 0)
    }

    /// What to do now, given the time up to which [`advance`](Schedule::advance) was told.
    pub(in crate::timer) fn act(&mut self, now: Nanos) -> Option<Action> {
        loop {
            if !self.pending.is_empty() {
                if self.running() < self.places() {
                    return self.start();
                }
                if self.overlap == Policy::Cancel && !self.ending {
                    return Some(self.replace());
                }
            }
            let rare = self.rare.as_mut()?;
            let due = if let Some(due) = rare.replay.pop_front() {
                due
            } else if rare.triggered > 0 {
                rare.triggered -= 1;
                let index = self.next.index.saturating_sub(1);
                Due { index, at: now }
            } else {
                return None;
            };
            self.admit_one(due, self.running());
        }
    }

    fn start(&mut self) -> Option<Action> {
        let due = self.pending.pop_front()?;
        self.running += 1;
        if self.cadence == Cadence::Delay {
            self.next_at = NEVER;
        }
        if self.cadence == Cadence::Clock {
            if let Some(irregular) = &mut self.irregular {
                irregular.start(due.at);
            }
        }
        let missed = match &mut self.rare {
            Some(rare) => std::mem::take(&mut rare.missed_since_start),
            None => 0,
        };
        Some(Action::Start { due, missed })
    }

    fn replace(&mut self) -> Action {
        self.ending = true;
        let rare = self.rare();
        rare.replaced += 1;
        let starved = rare.replaced == STARVED;
        if starved {
            rare.replaced = 0;
        }
        Action::Cancel { starved }
    }

    /// A tick asked for by hand.
    pub(in crate::timer) fn trigger(&mut self) {
        if self.closed {
            return self.skip(1);
        }
        self.rare().triggered += 1;
    }

    /// From `at` on no due time counts, and what was due and hasn't started won't. `busy` ticks were running
    /// until now.
    pub(in crate::timer) fn pause(&mut self, at: Nanos, busy: usize) {
        // A delay that runs out in a pause starts again with `resume`.
        if self.cadence != Cadence::Delay && self.wake_at() < at {
            let (points, _) = self.pass(at - 1);
            self.drop_unstarted(points.count, busy);
        }
        self.skip(self.pending.len() as u64);
        self.pending = Fifo::default();
        if let Some(rare) = &mut self.rare {
            rare.triggered = 0;
            let unplayed = std::mem::take(&mut rare.replay).count;
            self.drop_unstarted(unplayed, busy);
        }
        self.paused = true;
    }
}

#[cfg(test)]
impl Schedule {
    /// So many bytes in front a timer with default options touches.
    pub(in crate::timer) const TOUCHED: usize = std::mem::offset_of!(Schedule, irregular);

    /// On a grid, from the start on.
    pub(super) fn every(
        interval: Nanos,
        overlap: Overlap,
        missed: Missed,
        jitter: Nanos,
    ) -> Schedule {
        let rules = Rules {
            cadence: Cadence::Grid,
            overlap,
            missed,
            jitter,
            shift: 0,
        };
        Schedule::new(rules, interval, 0, 7)
    }
}
