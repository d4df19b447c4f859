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

/// What a timer with default options touches at each tick comes first, and is small: with thousands of
/// timers a tick costs as much as the memory that it misses.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Nanos,
    /// The first due time that hasn't been dealt with, and when it takes effect after jitter.
    next: Due,
    next_at: Nanos,
    /// Once `anchored`, the last due time that has passed; with [`Cadence::Delay`] the end of the last tick.
    last: Nanos,
    anchored: bool,
    cadence: Cadence,
    paused: bool,
    /// The running tick was asked to end by [`Action::Cancel`].
    ending: bool,
    /// Ticks are being skipped at the cap of [`Overlap::ALLOW`].
    crowded: bool,
    running: u32,
    overlap: Overlap,
    /// Due ticks that wait for a place.
    pending: Fifo,
    /// Present once needed.
    rare: Option<Box<Rare>>,
}

#[derive(Debug)]
struct Rare {
    missed_policy: Missed,
    jitter: Nanos,
    rng: fastrand::Rng,
    /// Missed due times still to be replayed.
    replay: Run,
    /// Ticks asked for by hand, off the grid.
    triggered: u64,
    /// Replacements in a row.
    replaced: u32,
    missed_since_start: u64,
    dropped: Dropped,
}

/// Due times that passed without a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) skipped: u64,
    pub(super) missed: u64,
}

impl Schedule {
    /// The first tick is due at `first`. `interval` isn't zero. `seed` decides on the jitter.
    pub(super) fn new(rules: Rules, interval: Nanos, first: Nanos, seed: u64) -> Schedule {
        let Rules {
            cadence,
            overlap,
            missed,
            jitter,
        } = rules;
        let mut schedule = Schedule {
            interval,
            next: Due {
                index: 0,
                at: first,
            },
            next_at: first,
            last: 0,
            anchored: false,
            cadence,
            paused: false,
            ending: false,
            crowded: false,
            running: 0,
            overlap,
            pending: Fifo::default(),
            rare: None,
        };
        if missed != Missed::default() || jitter > 0 {
            let rare = schedule.rare();
            rare.missed_policy = missed;
            rare.jitter = jitter;
            rare.rng = fastrand::Rng::with_seed(seed);
            schedule.next_at = schedule.jittered(first);
        }
        schedule
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| {
            Box::new(Rare {
                missed_policy: Missed::default(),
                jitter: 0,
                rng: fastrand::Rng::with_seed(0),
                replay: Run::default(),
                triggered: 0,
                replaced: 0,
                missed_since_start: 0,
                dropped: Dropped::default(),
            })
        })
    }

    /// What was dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> Dropped {
        match &mut self.rare {
            Some(rare) => std::mem::take(&mut rare.dropped),
            None => Dropped::default(),
        }
    }

    fn skip(&mut self, count: u64) {
        if count > 0 {
            self.rare().dropped.skipped += count;
        }
    }

    fn drop_missed(&mut self, count: u64) {
        if count > 0 {
            let rare = self.rare();
            rare.dropped.missed += count;
            rare.missed_since_start += count;
        }
    }

    fn places(&self) -> usize {
        self.overlap.capacity()
    }

    /// When [`advance`](Schedule::advance) has something to do at the earliest.
    pub(super) fn wake_at(&self) -> Nanos {
        if self.paused { NEVER } else { self.next_at }
    }

    pub(super) fn running(&self) -> usize {
        self.running as usize
    }

    /// As many ticks run as an `overlap = allow` without a number lets, and another was due.
    pub(super) fn crowded(&self) -> bool {
        self.crowded
    }

    pub(super) fn interval(&self) -> Nanos {
        self.interval
    }

    /// Several ticks may run at once.
    pub(super) fn is_concurrent(&self) -> bool {
        self.places() > 1
    }

    /// `count` ticks were found to have ended at `now`; `completed` tells whether one of them came to
    /// its own end.
    pub(super) fn ended(&mut self, now: Nanos, count: usize, completed: bool) {
        self.running -= count as u32;
        if let (true, Some(rare)) = (completed, &mut self.rare) {
            rare.replaced = 0;
        }
        if self.running == 0 {
            self.ending = false;
            if self.cadence == Cadence::Delay {
                self.last = now;
                self.anchored = true;
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
        self.admit(newest, self.running());
    }

    /// What to do now, given the time up to which [`advance`](Schedule::advance) was told.
    pub(super) fn act(&mut self, now: Nanos) -> Option<Action> {
        loop {
            if !self.pending.is_empty() {
                if self.running() < self.places() {
                    return self.start();
                }
                if self.overlap == Overlap::Cancel && !self.ending {
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
            self.admit(Run::one(due), self.running());
        }
    }

    fn start(&mut self) -> Option<Action> {
        let due = self.pending.pop_front()?;
        self.running += 1;
        if self.cadence == Cadence::Delay {
            self.next_at = NEVER;
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
    pub(super) fn trigger(&mut self) {
        self.rare().triggered += 1;
    }

    /// From `at` on no due time counts, and what was due and hasn't started won't.
    pub(super) fn pause(&mut self, at: Nanos) {
        if self.paused {
            return;
        }
        // A delay that runs out in a pause starts again with `resume`.
        if self.cadence == Cadence::Grid && self.next_at < at {
            let (points, _) = self.pass(at - 1);
            self.drop_unstarted(points.count);
        }
        self.skip(self.pending.len() as u64);
        self.pending = Fifo::default();
        if let Some(rare) = &mut self.rare {
            rare.triggered = 0;
            let unplayed = std::mem::take(&mut rare.replay).count;
            self.drop_unstarted(unplayed);
        }
        self.paused = true;
    }

    /// From `at` on due times count again, on the grid as it was.
    pub(super) fn resume(&mut self, at: Nanos) {
        if !self.paused {
            return;
        }
        self.paused = false;
        if self.next_at < at {
            match self.cadence {
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
        if !self.anchored {
            return;
        }
        let last = self.last;
        let intervals = match self.cadence {
            Cadence::Grid => (at.saturating_sub(last) / interval).max(1),
            Cadence::Delay if self.running == 0 => 1,
            Cadence::Delay => return,
        };
        self.next.at = last.saturating_add(intervals.saturating_mul(interval));
        self.next_at = self.jittered(self.next.at);
    }

    fn jittered(&mut self, at: Nanos) -> Nanos {
        match &mut self.rare {
            Some(rare) if rare.jitter > 0 && at != NEVER => {
                at.saturating_add(rare.rng.u64(..rare.jitter))
            }
            _ => at,
        }
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
        if self.cadence == Cadence::Delay {
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
                self.last = points.newest().at;
                self.anchored = true;
                return (points, false);
            }
        }
        let newest = points.newest();
        self.last = newest.at;
        self.anchored = true;
        self.next = Due {
            index: newest.index + 1,
            at: newest.at.saturating_add(self.interval),
        };
        self.next_at = self.jittered(self.next.at);
        (points, newest_at == now)
    }

    /// Several due times that have passed while no tick was running.
    fn miss(&mut self, points: Run) {
        let policy = self.rare().missed_policy;
        let kept = match policy {
            Missed::Coalesce => 1,
            Missed::Skip => 0,
            Missed::Burst(most) => points.count.min(most as u64),
        };
        self.drop_missed(points.count - kept);
        let kept = points.newest_of(kept);
        match policy {
            Missed::Burst(_) => self.rare().replay = kept,
            _ => self.admit(kept, self.running()),
        }
    }

    /// Due times that a pause or a stop has overtaken.
    fn drop_unstarted(&mut self, count: u64) {
        if self.running > 0 {
            self.skip(count);
        } else {
            self.drop_missed(count);
        }
    }

    /// Decides on due ticks while `occupied` places are taken.
    fn admit(&mut self, points: Run, occupied: usize) {
        if points.count == 0 {
            return;
        }
        if self.overlap == Overlap::Cancel {
            self.skip(points.count - 1 + self.pending.len() as u64);
            self.pending = Fifo::default();
            self.pending.push_back(points.newest());
            return;
        }

        let free = self.places().saturating_sub(occupied);
        let waiting = self.pending.len().saturating_sub(free);
        let room = free.saturating_sub(self.pending.len());
        let seats = match self.overlap {
            Overlap::Queue(most) => room.saturating_add(most.saturating_sub(waiting)),
            _ => room,
        };
        let taken = points.count.min(seats as u64);
        for i in 0..taken {
            self.pending.push_back(points.nth(i));
        }
        let rest = points.count - taken;
        self.crowded = rest > 0 && self.overlap == Overlap::ALLOW;
        if rest > 0 && self.overlap == Overlap::Wait {
            self.skip(rest - 1);
            self.wait(points.newest(), waiting > 0);
        } else {
            self.skip(rest);
        }
    }

    /// Lets the newest due tick wait, in the place of the one that does already.
    fn wait(&mut self, newest: Due, taken: bool) {
        match self.pending.last_mut().filter(|_| taken) {
            Some(last) => {
                // A replayed due time may be older than the one that waits.
                if newest.at >= last.at {
                    *last = newest;
                }
                self.skip(1);
            }
            None => self.pending.push_back(newest),
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
    rest: Option<Box<VecDeque<Due>>>,
}

impl Fifo {
    fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len());
        usize::from(self.front.is_some()) + rest
    }

    fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    fn push_back(&mut self, due: Due) {
        if self.front.is_none() {
            self.front = Some(due);
        } else {
            self.rest.get_or_insert_default().push_back(due);
        }
    }

    fn pop_front(&mut self) -> Option<Due> {
        let due = self.front.take();
        if let Some(rest) = &mut self.rest {
            self.front = rest.pop_front();
        }
        due
    }

    fn last_mut(&mut self) -> Option<&mut Due> {
        let rest = self.rest.as_mut().and_then(|rest| rest.back_mut());
        rest.or(self.front.as_mut())
    }
}
