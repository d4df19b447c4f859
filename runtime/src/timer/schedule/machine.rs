//! What is to be done now with the due times that have passed, and with those that wait.

use std::collections::VecDeque;

/// Nanoseconds since the timer was started.
pub(in crate::timer) type Nanos = u64;

pub(in crate::timer) const NEVER: Nanos = Nanos::MAX;

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
    pub const ALLOW: Overlap = Overlap::Allow(DEFAULT_CAP as usize);
}

/// That of [`Overlap::ALLOW`].
const DEFAULT_CAP: u32 = 1024;

/// What becomes of the due times that the timer itself was late for, several at once: the runtime was
/// stalled, or the machine suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// The newest runs; [`Tick::missed`](crate::Tick::missed) tells how many it stands for.
    #[default]
    Coalesce,
    /// None runs; the next tick is that of the next grid point.
    Skip,
    /// The newest so many are replayed, the oldest first, each subject to [`Overlap`].
    Burst(usize),
}

/// What doesn't change while the timer lives.
#[derive(Clone, Copy, Debug)]
pub(in crate::timer) struct Rules {
    pub(in crate::timer) cadence: Cadence,
    pub(in crate::timer) overlap: Overlap,
    pub(in crate::timer) missed: Missed,
    /// Each start is shifted by less than this, which is less than the interval.
    pub(in crate::timer) jitter: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) enum Cadence {
    /// Due times lie on a grid, whatever the ticks do.
    Grid,
    /// The next due time is one interval after the end of the last tick.
    Delay,
}

/// A due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::timer) struct Due {
    pub(in crate::timer) index: u64,
    /// On the grid, before jitter.
    pub(in crate::timer) at: Nanos,
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
pub(in crate::timer) struct Schedule {
    interval: Nanos,
    /// The first due time that hasn't been dealt with, and when it takes effect after jitter.
    next: Due,
    next_at: Nanos,
    /// The next due time has one before it, an interval earlier.
    anchored: bool,
    cadence: Cadence,
    paused: bool,
    /// The running tick was asked to end by [`Action::Cancel`].
    ending: bool,
    /// Ticks are being skipped at the cap of [`Overlap::ALLOW`].
    crowded: bool,
    overlap: Policy,
    /// That of the policy, if it has one.
    bound: u32,
    running: u32,
    /// Due ticks that wait for a place.
    pending: Fifo,
    /// Present once needed.
    rare: Option<Box<Rare>>,
}

/// [`Overlap`] without its bound, which would take up eight bytes for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Skip,
    Allow,
    Wait,
    Queue,
    Cancel,
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
    /// The last due time, when it isn't one interval before the next.
    last: Option<Nanos>,
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
            ending: false,
            crowded: false,
            overlap,
            bound,
            running: 0,
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

    /// How many ticks may run at once.
    fn places(&self) -> usize {
        match self.overlap {
            Policy::Allow => self.bound as usize,
            _ => 1,
        }
    }

    /// When [`advance`](Schedule::advance) has something to do at the earliest.
    pub(in crate::timer) fn wake_at(&self) -> Nanos {
        if self.paused { NEVER } else { self.next_at }
    }

    pub(in crate::timer) fn running(&self) -> usize {
        self.running as usize
    }

    /// As many ticks run as an `overlap = allow` without a number lets, and another was due.
    pub(in crate::timer) fn crowded(&self) -> bool {
        self.crowded
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
        if now >= self.wake_at() {
            let (points, newest_at) = self.pass(now);
            self.judge(points, newest_at == now, busy);
        }
    }

    fn judge(&mut self, points: Run, just_now: bool, busy: usize) {
        if busy == 0 && points.count > 1 {
            self.miss(points);
        } else if just_now {
            // A tick that ended at the very instant of a due time has made room for it.
            let (earlier, newest) = points.split_newest();
            self.admit(earlier, busy);
            self.admit(newest, self.running());
        } else {
            self.admit(points, busy);
        }
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
    pub(in crate::timer) fn trigger(&mut self) {
        self.rare().triggered += 1;
    }

    /// From `at` on no due time counts, and what was due and hasn't started won't. `busy` ticks were running
    /// until now.
    pub(in crate::timer) fn pause(&mut self, at: Nanos, busy: usize) {
        // A delay that runs out in a pause starts again with `resume`.
        if self.cadence == Cadence::Grid && self.wake_at() < at {
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
        let last = self.last();
        self.interval = interval;
        let Some(last) = last else { return };
        let intervals = match self.cadence {
            // The last due time is held back by jitter, and the next one follows it.
            Cadence::Grid if self.next.at < at && self.next_at >= at => return,
            Cadence::Grid => (at.saturating_sub(last) / interval).max(1),
            // Of a delay that has run out only the tick is to come.
            Cadence::Delay if self.running > 0 || self.next_at < at => return,
            Cadence::Delay => 1,
        };
        self.follow(last.saturating_add((intervals - 1).saturating_mul(interval)));
        if intervals > 1 {
            self.rare().last = Some(last);
        }
    }

    /// Makes the next tick due one interval after `last`.
    fn follow(&mut self, last: Nanos) {
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
    fn last(&self) -> Option<Nanos> {
        if !self.anchored {
            return None;
        }
        let odd = self.rare.as_ref().and_then(|rare| rare.last);
        odd.or_else(|| self.next.at.checked_sub(self.interval))
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
    /// Also gives when the newest took effect.
    fn pass(&mut self, now: Nanos) -> (Run, Nanos) {
        let mut points = Run {
            first: self.next,
            step: self.interval,
            count: 1,
        };
        let mut newest_at = self.next_at;
        if self.cadence == Cadence::Delay {
            self.next.index += 1;
            self.next_at = NEVER;
            return (points, newest_at);
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
                self.anchored = true;
                self.rare().last = None;
                // Some time before the grid point after it.
                return (points, self.next.at - 1);
            }
        }
        let newest = points.newest();
        self.next.index = newest.index + 1;
        self.follow(newest.at);
        (points, newest_at)
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
            Missed::Burst(_) => {
                let unplayed = std::mem::replace(&mut self.rare().replay, kept);
                self.drop_missed(unplayed.count);
            }
            _ => self.admit(kept, self.running()),
        }
    }

    /// Due times that a pause or a stop has overtaken.
    fn drop_unstarted(&mut self, count: u64, busy: usize) {
        if busy > 0 {
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
        if self.overlap == Policy::Cancel {
            self.skip(points.count - 1 + self.pending.len() as u64);
            self.pending = Fifo::default();
            self.pending.push_back(points.newest());
            return;
        }

        let free = self.places().saturating_sub(occupied);
        let waiting = self.pending.len().saturating_sub(free);
        let room = free.saturating_sub(self.pending.len());
        let seats = match self.overlap {
            Policy::Queue => room + (self.bound as usize).saturating_sub(waiting),
            _ => room,
        };
        let taken = points.count.min(seats as u64);
        for i in 0..taken {
            self.pending.push_back(points.nth(i));
        }
        let rest = points.count - taken;
        self.crowded = rest > 0 && self.overlap == Policy::Allow && self.bound == DEFAULT_CAP;
        if rest > 0 && self.overlap == Policy::Wait {
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
#[derive(Debug)]
struct Fifo {
    /// At [`NEVER`] when there is none.
    front: Due,
    #[allow(
        clippy::box_collection,
        reason = "a third of the size where there is none"
    )]
    rest: Option<Box<VecDeque<Due>>>,
}

const NONE: Due = Due {
    index: 0,
    at: NEVER,
};

impl Default for Fifo {
    fn default() -> Self {
        Fifo {
            front: NONE,
            rest: None,
        }
    }
}

impl Fifo {
    fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len());
        usize::from(!self.is_empty()) + rest
    }

    fn is_empty(&self) -> bool {
        self.front.at == NEVER
    }

    fn push_back(&mut self, due: Due) {
        if self.is_empty() {
            self.front = due;
        } else {
            self.rest.get_or_insert_default().push_back(due);
        }
    }

    fn pop_front(&mut self) -> Option<Due> {
        if self.is_empty() {
            return None;
        }
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        Some(std::mem::replace(&mut self.front, next.unwrap_or(NONE)))
    }

    fn last_mut(&mut self) -> Option<&mut Due> {
        let empty = self.is_empty();
        let rest = self.rest.as_mut().and_then(|rest| rest.back_mut());
        rest.or((!empty).then_some(&mut self.front))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;
    const YEAR: Nanos = 365 * 24 * 3600 * 1000 * MS;

    fn grid(interval: Nanos, overlap: Overlap, missed: Missed, jitter: Nanos) -> Schedule {
        let rules = Rules {
            cadence: Cadence::Grid,
            overlap,
            missed,
            jitter,
        };
        Schedule::new(rules, interval, 0, 7)
    }

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
        let mut schedule = grid(interval, Overlap::Skip, Missed::Coalesce, 0);
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
            let mut schedule = grid(interval, Overlap::Queue(3), Missed::Burst(3), 0);
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
    fn jitter_stays_within_its_bound_and_off_the_grid() {
        let mut schedule = grid(100, Overlap::Skip, Missed::Coalesce, 99);
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
    fn overlap_is_judged_at_the_shifted_start() {
        let mut schedule = grid(100, Overlap::Skip, Missed::Coalesce, 99);
        let (mut started, mut skipped) = (0, 0);
        let mut ends_at = NEVER;
        while started + skipped < 10_000 {
            let due = schedule.next;
            let starts_at = schedule.wake_at();
            let now = starts_at.min(ends_at);
            let busy = schedule.running();
            if now == ends_at {
                schedule.ended(now, 1, true);
                ends_at = NEVER;
            }
            schedule.advance(now, busy);
            let free = ends_at == NEVER;
            let expected = (now == starts_at && free).then_some(Action::Start { due, missed: 0 });
            assert_eq!(schedule.act(now), expected);
            if expected.is_some() {
                ends_at = now + 60;
                started += 1;
            }
            let passed = u64::from(now == starts_at && !free);
            assert_eq!(schedule.take_dropped().skipped, passed);
            skipped += passed;
        }
        // Judged on the grid, more than half would be skipped: those after a start that is shifted by over 40.
        assert!((500..3000).contains(&skipped), "{skipped}");
    }

    #[test]
    fn a_due_time_held_back_by_jitter_outlives_a_new_interval() {
        let mut schedule = grid(100, Overlap::Skip, Missed::Coalesce, 99);
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

    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// Time passes, perhaps a lot of it, and the timer gets to run.
        Wake(Nanos),
        /// So many of the running ticks end with the next wake-up.
        End(usize),
        Pause,
        Resume,
        SetInterval(Nanos),
    }

    fn event() -> impl Strategy<Value = Event> {
        let span = prop_oneof![0..3 * MS, 0..500 * MS, 0..YEAR / 12];
        prop_oneof![
            8 => span.prop_map(Event::Wake),
            5 => (1..3usize).prop_map(Event::End),
            1 => Just(Event::Pause),
            1 => Just(Event::Resume),
            1 => (20..300 * MS).prop_map(Event::SetInterval),
        ]
    }

    fn overlap() -> impl Strategy<Value = Overlap> {
        prop_oneof![
            Just(Overlap::Skip),
            (1..5usize).prop_map(Overlap::Allow),
            Just(Overlap::Wait),
            (1..5usize).prop_map(Overlap::Queue),
            Just(Overlap::Cancel),
        ]
    }

    fn missed() -> impl Strategy<Value = Missed> {
        prop_oneof![
            Just(Missed::Coalesce),
            Just(Missed::Skip),
            (1..5usize).prop_map(Missed::Burst),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Each due time is started, skipped or missed, or waits; none of them twice; never early; in order; where the
        /// grid has it.
        #[test]
        fn no_due_time_is_lost_or_doubled(
            interval in prop_oneof![20..50u64, MS..200 * MS],
            jitter in 0..20u64,
            overlap in overlap(),
            missed in missed(),
            events in prop::collection::vec(event(), 1..80),
        ) {
            let mut schedule = grid(interval, overlap, missed, jitter);
            let (mut now, mut ending, mut in_pauses) = (0, 0, 0);
            let mut started: Vec<Due> = Vec::new();
            let mut dropped = Dropped::default();
            let mut grid_as_it_was = true;
            for event in events {
                let mut span = 0;
                match event {
                    Event::Wake(passed) => span = passed,
                    Event::End(count) => ending += count,
                    Event::Pause => schedule.pause(now, schedule.running()),
                    Event::Resume => {
                        let index = schedule.next.index;
                        schedule.resume(now);
                        in_pauses += schedule.next.index - index;
                    }
                    Event::SetInterval(interval) => {
                        schedule.set_interval(interval, now, schedule.running());
                        grid_as_it_was = false;
                    }
                }
                now += span;
                let busy = schedule.running();
                let ended = std::mem::take(&mut ending).min(busy);
                schedule.ended(now, ended, true);
                schedule.advance(now, busy);
                while let Some(action) = schedule.act(now) {
                    match action {
                        Action::Start { due, .. } => {
                            prop_assert!(!grid_as_it_was || due.at == due.index * interval);
                            started.push(due);
                        }
                        Action::Cancel { .. } => schedule.ended(now, 1, false),
                    }
                }
                let more = schedule.take_dropped();
                dropped.skipped += more.skipped;
                dropped.missed += more.missed;

                prop_assert!(started.last().is_none_or(|due| due.at <= now));
                prop_assert!(schedule.running() <= schedule.places());
                prop_assert!(schedule.paused || schedule.wake_at() > now);
                let waiting = schedule.pending.len() as u64;
                let accounted = started.len() as u64 + dropped.skipped + dropped.missed + waiting;
                prop_assert_eq!(accounted + in_pauses, schedule.next.index);
            }
            prop_assert!(started.windows(2).all(|pair| pair[0].index < pair[1].index && pair[0].at < pair[1].at));
        }

        /// A delay leads to one tick, when it has run out and never before, however late the timer is.
        #[test]
        fn a_delay_runs_out_once(
            events in prop::collection::vec((0..500 * MS, event()), 1..80),
        ) {
            let rules = Rules { cadence: Cadence::Delay, overlap: Overlap::Skip, missed: Missed::Coalesce, jitter: 0 };
            let mut interval = 100 * MS;
            let mut schedule = Schedule::new(rules, interval, 0, 7);
            let (mut now, mut paused, mut ticks) = (0, false, 0);
            let (mut last, mut due) = (None, Some(0));
            for (unnoticed, event) in events {
                now += unnoticed;
                let busy = schedule.running();
                match event {
                    Event::Wake(passed) => now += passed,
                    Event::End(_) if busy == 1 => {
                        schedule.ended(now, 1, true);
                        (last, due) = (Some(now), Some(now + interval));
                    }
                    Event::End(_) => {}
                    Event::Pause => {
                        schedule.pause(now, busy);
                        paused = true;
                    }
                    Event::Resume => {
                        schedule.resume(now);
                        if paused && due.is_some_and(|due| due < now) {
                            (last, due) = (Some(now), Some(now + interval));
                        }
                        paused = false;
                    }
                    Event::SetInterval(new) => {
                        schedule.set_interval(new, now, busy);
                        interval = new;
                        if let (Some(last), true) = (last, due.is_some_and(|due| due >= now)) {
                            due = Some(last + new);
                        }
                    }
                }
                schedule.advance(now, busy);
                let expected = due.filter(|&due| due <= now && !paused).map(|at| {
                    ticks += 1;
                    due = None;
                    Action::Start { due: Due { index: ticks - 1, at }, missed: 0 }
                });
                prop_assert_eq!(schedule.act(now), expected);
                prop_assert_eq!(schedule.act(now), None);
            }
        }
    }
}
