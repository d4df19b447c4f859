//! When ticks are due and what becomes of each due time: arithmetic and decisions, without a clock.
//!
//! Times are nanoseconds since the timer was started, which lasts for 584 years; what lies beyond that
//! is [`NEVER`]. The grid is kept by adding whole intervals to whole nanoseconds, so it doesn't drift.

use std::collections::VecDeque;

/// Nanoseconds since the timer was started.
pub(super) type Nanos = u64;

pub(super) const NEVER: Nanos = Nanos::MAX;

/// What a due tick does while an earlier one still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// The due time passes without a tick.
    #[default]
    Skip,
    /// Up to so many ticks run at once; the due times of more are skipped.
    Allow(usize),
    /// The newest due tick waits until the running one has ended; at most one waits.
    Wait,
    /// Up to so many due ticks wait, the oldest goes first; the due times of more are skipped.
    Queue(usize),
    /// The running tick is cancelled and replaced.
    Cancel,
}

impl Overlap {
    /// `overlap = allow` without a number: up to 1,024 ticks at once. A tick that is skipped at a cap
    /// this high is warned of, for it is most probably one that never ends.
    pub const ALLOW: Overlap = Overlap::Allow(1024);

    pub(super) fn capacity(self) -> usize {
        match self {
            Overlap::Allow(cap) => cap,
            _ => 1,
        }
    }
}

/// What becomes of the due times that the timer itself was late for, several at once: the runtime was
/// stalled, or the machine suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// The newest runs; [`Tick::missed`](super::Tick::missed) tells how many it stands for.
    #[default]
    Coalesce,
    /// None runs; the next tick is that of the next grid point.
    Skip,
    /// The newest so many are replayed, the oldest first, each subject to [`Overlap`].
    Burst(usize),
}

/// What doesn't change while the timer lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) cadence: Cadence,
    pub(super) overlap: Overlap,
    pub(super) missed: Missed,
    /// Each start is shifted by less than this, which is less than the interval.
    pub(super) jitter: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cadence {
    /// Due times lie on a grid, whatever the ticks do.
    Grid,
    /// The next due time is one interval after the end of the last tick.
    Delay,
}

/// A due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) index: u64,
    /// On the grid, before jitter.
    pub(super) at: Nanos,
}

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
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
pub(super) const STARVED: u32 = 10;

#[derive(Debug)]
pub(super) struct Schedule {
    rules: Rules,
    interval: Nanos,
    /// The last due time that has passed; with [`Cadence::Delay`] the end of the last tick.
    last: Option<Nanos>,
    /// The first due time that hasn't been dealt with, and when it takes effect after jitter.
    next: Due,
    next_at: Nanos,
    rng: fastrand::Rng,
    paused: bool,
    /// Ticks that run, and whether they were asked to end by [`Action::Cancel`].
    running: usize,
    ending: bool,
    /// Due ticks that wait for a place.
    pending: Fifo,
    /// Missed due times still to be replayed.
    replay: Run,
    /// Ticks asked for by hand, off the grid.
    triggered: u64,
    replaced: u32,
    missed_since_start: u64,
    /// Ticks are being skipped at the cap of [`Overlap::ALLOW`].
    crowded: bool,
    pub(super) skipped: u64,
    pub(super) missed: u64,
}

impl Schedule {
    /// The first tick is due at `first`. `interval` isn't zero.
    pub(super) fn new(rules: Rules, interval: Nanos, first: Nanos, rng: fastrand::Rng) -> Schedule {
        let mut schedule = Schedule {
            rules,
            interval,
            last: None,
            next: Due {
                index: 0,
                at: first,
            },
            next_at: NEVER,
            rng,
            paused: false,
            running: 0,
            ending: false,
            pending: Fifo::default(),
            replay: Run::default(),
            triggered: 0,
            replaced: 0,
            missed_since_start: 0,
            crowded: false,
            skipped: 0,
            missed: 0,
        };
        schedule.next_at = schedule.jittered(first);
        schedule
    }

    /// When [`advance`](Schedule::advance) has something to do at the earliest.
    pub(super) fn wake_at(&self) -> Nanos {
        if self.paused { NEVER } else { self.next_at }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// As many ticks run as an `overlap = allow` without a number lets, and another was due.
    pub(super) fn crowded(&self) -> bool {
        self.crowded
    }

    pub(super) fn interval(&self) -> Nanos {
        self.interval
    }

    pub(super) fn overlap(&self) -> Overlap {
        self.rules.overlap
    }

    /// `count` ticks were found to have ended at `now`; `completed` tells whether one of them came to
    /// its own end.
    pub(super) fn ended(&mut self, now: Nanos, count: usize, completed: bool) {
        self.running -= count;
        if completed {
            self.replaced = 0;
        }
        if self.running == 0 {
            self.ending = false;
            if self.rules.cadence == Cadence::Delay {
                self.last = Some(now);
                self.next.at = now.saturating_add(self.interval);
                self.next_at = self.jittered(self.next.at);
            }
        }
    }

    /// Deals with the due times up to `now`, of which the last call didn't know. `busy` ticks were
    /// running until now.
    pub(super) fn advance(&mut self, now: Nanos, busy: usize) {
        if now < self.wake_at() {
            return;
        }
        let (points, just_now) = self.pass(now);
        if busy == 0 && points.count > 1 {
            return self.miss(points);
        }
        if !just_now {
            return self.admit(points, busy);
        }
        // A tick that ended at the very instant of a due time has made room for it.
        let (earlier, newest) = points.split_newest();
        self.admit(earlier, busy);
        self.admit(newest, self.running);
    }

    /// What to do now, given the time up to which [`advance`](Schedule::advance) was told.
    pub(super) fn act(&mut self, now: Nanos) -> Option<Action> {
        loop {
            if self.running < self.rules.overlap.capacity() {
                if let Some(due) = self.pending.pop_front() {
                    self.running += 1;
                    if self.rules.cadence == Cadence::Delay {
                        self.next_at = NEVER;
                    }
                    let missed = std::mem::take(&mut self.missed_since_start);
                    return Some(Action::Start { due, missed });
                }
            } else if self.rules.overlap == Overlap::Cancel
                && !self.ending
                && !self.pending.is_empty()
            {
                self.ending = true;
                self.replaced += 1;
                let starved = self.replaced >= STARVED;
                if starved {
                    self.replaced = 0;
                }
                return Some(Action::Cancel { starved });
            }

            if let Some(due) = self.replay.pop_front() {
                self.admit(Run::one(due), self.running);
            } else if self.triggered > 0 {
                self.triggered -= 1;
                let index = self.next.index.saturating_sub(1);
                self.admit(Run::one(Due { index, at: now }), self.running);
            } else {
                return None;
            }
        }
    }

    /// A tick asked for by hand.
    pub(super) fn trigger(&mut self) {
        self.triggered += 1;
    }

    /// From `at` on no due time counts, and what was due and hasn't started won't.
    pub(super) fn pause(&mut self, at: Nanos) {
        if self.paused {
            return;
        }
        // A delay that runs out in a pause starts again with `resume`.
        if self.rules.cadence == Cadence::Grid && self.next_at < at {
            let (points, _) = self.pass(at - 1);
            self.drop_unstarted(points.count);
        }
        self.skipped += self.pending.len() as u64;
        self.pending.clear();
        let unplayed = std::mem::take(&mut self.replay).count;
        self.drop_unstarted(unplayed);
        self.triggered = 0;
        self.paused = true;
    }

    /// From `at` on due times count again, on the grid as it was.
    pub(super) fn resume(&mut self, at: Nanos) {
        if !self.paused {
            return;
        }
        self.paused = false;
        if self.next_at < at {
            match self.rules.cadence {
                Cadence::Grid => {
                    self.pass(at - 1);
                }
                Cadence::Delay => {
                    self.next.at = at.saturating_add(self.interval);
                    self.next_at = self.jittered(self.next.at);
                }
            }
        }
    }

    /// The next tick is one new interval, longer than the jitter, after the last due time, and due at
    /// once when that has passed at `at`.
    pub(super) fn set_interval(&mut self, interval: Nanos, at: Nanos) {
        self.interval = interval;
        let Some(last) = self.last else { return };
        let intervals = match self.rules.cadence {
            Cadence::Grid => (at.saturating_sub(last) / interval).max(1),
            Cadence::Delay if self.running == 0 => 1,
            Cadence::Delay => return,
        };
        self.next.at = last.saturating_add(intervals.saturating_mul(interval));
        self.next_at = self.jittered(self.next.at);
    }

    fn jittered(&mut self, at: Nanos) -> Nanos {
        if self.rules.jitter == 0 || at == NEVER {
            return at;
        }
        at.saturating_add(self.rng.u64(..self.rules.jitter))
    }

    /// Takes the due times that took effect up to `now`, of which there is at least one, off the grid.
    /// Also tells whether the newest took effect just now.
    fn pass(&mut self, now: Nanos) -> (Run, bool) {
        let mut points = Run {
            first: self.next,
            step: self.interval,
            count: 1,
        };
        let mut newest_at = self.next_at;
        if self.rules.cadence == Cadence::Delay {
            self.next.index += 1;
            self.next_at = NEVER;
            return (points, newest_at == now);
        }
        let late = now - points.first.at;
        if late >= self.interval {
            // All but the newest have taken effect: jitter is shorter than the interval.
            points.count += late / self.interval;
            newest_at = self.jittered(points.newest().at);
            if newest_at > now {
                self.next = points.newest();
                self.next_at = newest_at;
                points.count -= 1;
                self.last = Some(points.newest().at);
                return (points, false);
            }
        }
        let newest = points.newest();
        self.last = Some(newest.at);
        self.next = Due {
            index: newest.index + 1,
            at: newest.at.saturating_add(self.interval),
        };
        self.next_at = self.jittered(self.next.at);
        (points, newest_at == now)
    }

    /// Several due times that have passed while no tick was running.
    fn miss(&mut self, points: Run) {
        let kept = match self.rules.missed {
            Missed::Coalesce => 1,
            Missed::Skip => 0,
            Missed::Burst(most) => points.count.min(most as u64),
        };
        self.drop_missed(points.count - kept);
        let kept = points.newest_of(kept);
        match self.rules.missed {
            Missed::Burst(_) => self.replay = kept,
            _ => self.admit(kept, self.running),
        }
    }

    fn drop_missed(&mut self, count: u64) {
        self.missed += count;
        self.missed_since_start += count;
    }

    /// Due times that a pause or a stop has overtaken.
    fn drop_unstarted(&mut self, count: u64) {
        if self.running > 0 {
            self.skipped += count;
        } else {
            self.drop_missed(count);
        }
    }

    /// Decides on due ticks while `occupied` places are taken.
    fn admit(&mut self, points: Run, occupied: usize) {
        if points.count == 0 {
            return;
        }
        if self.rules.overlap == Overlap::Cancel {
            self.skipped += points.count - 1 + self.pending.len() as u64;
            self.pending.clear();
            self.pending.push_back(points.newest());
            return;
        }

        let free = self.rules.overlap.capacity().saturating_sub(occupied);
        let waiting = self.pending.len().saturating_sub(free);
        let room = free.saturating_sub(self.pending.len());
        let seats = match self.rules.overlap {
            Overlap::Queue(most) => room + most.saturating_sub(waiting),
            _ => room,
        };
        let taken = points.count.min(seats as u64);
        for i in 0..taken {
            self.pending.push_back(points.nth(i));
        }
        let rest = points.count - taken;
        self.crowded = rest > 0 && self.rules.overlap == Overlap::ALLOW;
        if rest == 0 {
            return;
        }
        match self.rules.overlap {
            Overlap::Wait => {
                let newest = points.newest();
                self.skipped += rest - 1;
                match self.pending.last_mut().filter(|_| waiting > 0) {
                    Some(last) => {
                        // A replayed due time may be older than the one that waits.
                        if newest.at >= last.at {
                            *last = newest;
                        }
                        self.skipped += 1;
                    }
                    None => self.pending.push_back(newest),
                }
            }
            _ => self.skipped += rest,
        }
    }
}

/// Neighbouring due times.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Due,
    step: Nanos,
    count: u64,
}

impl Default for Run {
    fn default() -> Self {
        Run {
            first: Due { index: 0, at: 0 },
            step: 0,
            count: 0,
        }
    }
}

impl Run {
    fn one(due: Due) -> Run {
        Run {
            first: due,
            step: 0,
            count: 1,
        }
    }

    fn nth(&self, i: u64) -> Due {
        Due {
            index: self.first.index + i,
            at: self.first.at + i * self.step,
        }
    }

    fn newest(&self) -> Due {
        self.nth(self.count.saturating_sub(1))
    }

    fn newest_of(self, count: u64) -> Run {
        if count == 0 {
            return Run::default();
        }
        Run {
            first: self.nth(self.count - count),
            count,
            ..self
        }
    }

    fn split_newest(self) -> (Run, Run) {
        let earlier = Run {
            count: self.count - 1,
            ..self
        };
        (earlier, Run::one(self.newest()))
    }

    fn pop_front(&mut self) -> Option<Due> {
        let due = self.nth(0);
        self.count = self.count.checked_sub(1)?;
        if self.count > 0 {
            self.first = self.nth(1);
        }
        Some(due)
    }
}

/// A queue that owns no memory until a second one waits, which most timers never see.
#[derive(Debug, Default)]
struct Fifo {
    front: Option<Due>,
    rest: VecDeque<Due>,
}

impl Fifo {
    fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.rest.len()
    }

    fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    fn push_back(&mut self, due: Due) {
        if self.front.is_none() {
            self.front = Some(due);
        } else {
            self.rest.push_back(due);
        }
    }

    fn pop_front(&mut self) -> Option<Due> {
        let due = self.front.take();
        if !self.rest.is_empty() {
            self.front = self.rest.pop_front();
        }
        due
    }

    fn last_mut(&mut self) -> Option<&mut Due> {
        self.rest.back_mut().or(self.front.as_mut())
    }

    fn clear(&mut self) {
        *self = Fifo::default();
    }
}
