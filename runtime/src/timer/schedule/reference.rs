//! What a schedule is to do, one due time after the other and without a thought for how many there are.

use std::collections::VecDeque;

use super::due::{Due, NEVER, Nanos};
use super::irregular::PASSED_OVER;
use super::machine::{Action, Cadence, Dropped, Rules, STARVED};
use super::policy::{Missed, Overlap};

pub(super) struct Reference {
    rules: Rules,
    rng: fastrand::Rng,
    pub(super) interval: Nanos,
    pub(super) next: Due,
    /// When it takes effect.
    pub(super) next_at: Nanos,
    /// What the next due time is one interval after.
    last: Option<Nanos>,
    pub(super) paused: bool,
    pub(super) running: usize,
    /// The running tick was asked to end.
    ending: bool,
    replaced: u32,
    pending: VecDeque<Due>,
    replay: VecDeque<Due>,
    triggered: u64,
    pub(super) dropped: Dropped,
    missed_since_start: u64,
    pub(super) closed: bool,
    /// Those of a calendar.
    dues: Vec<Nanos>,
    /// The clock when it was last looked at.
    seen: Nanos,
    pub(super) newest_passed: Option<Nanos>,
    /// From the first to the last due time that was started while the clock went on.
    started: Vec<(Nanos, Nanos)>,
    jumped: bool,
}

impl Reference {
    pub(super) fn new(rules: Rules, interval: Nanos, first: Nanos, seed: u64) -> Reference {
        let mut reference = Reference {
            rules,
            rng: fastrand::Rng::with_seed(seed),
            interval,
            next: Due {
                index: 0,
                at: first,
            },
            next_at: first,
            last: None,
            paused: false,
            running: 0,
            ending: false,
            replaced: 0,
            pending: VecDeque::new(),
            replay: VecDeque::new(),
            triggered: 0,
            dropped: Dropped::default(),
            missed_since_start: 0,
            closed: false,
            dues: Vec::new(),
            seen: 0,
            newest_passed: None,
            started: Vec::new(),
            jumped: true,
        };
        reference.next_at = reference.shifted(first);
        reference
    }

    pub(super) fn by_clock(rules: Rules, dues: Vec<Nanos>, now: Nanos, seed: u64) -> Reference {
        let mut reference = Reference::new(rules, NEVER, NEVER, seed);
        (reference.dues, reference.seen) = (dues, now);
        reference.seek(now);
        reference
    }

    /// The first due time after `at` that wasn't started is the next.
    fn seek(&mut self, at: Nanos) {
        let started = |due: Nanos| {
            self.started
                .iter()
                .any(|&(from, to)| from <= due && due <= to)
        };
        let mut dues = self.dues.iter().copied();
        let next = dues.find(|&due| due > at && !started(due));
        self.next.at = next.unwrap_or(NEVER);
        self.next_at = self.shifted(self.next.at);
    }

    pub(super) fn look(&mut self, now: Nanos) {
        let put_back = now < self.seen;
        self.jumped |= put_back || now - self.seen > 2 * PASSED_OVER;
        self.seen = now;
        if put_back && self.next.at > now {
            self.seek(now);
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.pending.clear();
        self.replay.clear();
        self.triggered = 0;
    }

    pub(super) fn open(&mut self, last: Option<Nanos>, now: Nanos) -> Nanos {
        let last = last.unwrap_or(now - 1);
        self.closed = false;
        self.newest_passed = None;
        self.jumped = true;
        self.started.retain(|(from, _)| *from <= last);
        for (_, to) in &mut self.started {
            *to = last.min(*to);
        }
        self.seek(last);
        last
    }

    fn shifted(&mut self, at: Nanos) -> Nanos {
        match self.rules.jitter {
            _ if at == NEVER => NEVER,
            0 => at + self.rules.shift,
            jitter => at + self.rng.u64(..jitter),
        }
    }

    fn follow(&mut self, last: Nanos, next: Nanos) {
        self.last = Some(last);
        self.next.at = next;
        self.next_at = self.shifted(next);
    }

    /// The due times that took effect up to `now`, and when each did.
    fn pass(&mut self, now: Nanos) -> Vec<(Due, Nanos)> {
        let mut passed = Vec::new();
        while !self.paused && !self.closed && self.next_at <= now {
            passed.push((self.next, self.next_at));
            self.next.index += 1;
            if self.rules.cadence == Cadence::Clock {
                let last = self.next.at;
                self.newest_passed = Some(last);
                self.seek(last);
                self.interval = self.next.at - last;
                continue;
            }
            if self.rules.cadence == Cadence::Delay {
                self.next_at = NEVER;
                break;
            }
            let at = self.next.at + self.interval;
            if at + self.interval <= now {
                // There is one after it, so it has taken effect, and nobody asks when.
                (self.last, self.next.at, self.next_at) = (Some(self.next.at), at, at);
            } else {
                self.follow(self.next.at, at);
            }
        }
        passed
    }

    fn skip(&mut self, count: usize) {
        self.dropped.skipped += count as u64;
    }

    fn miss(&mut self, count: usize) {
        self.dropped.missed += count as u64;
        self.missed_since_start += count as u64;
    }

    pub(super) fn places(&self) -> usize {
        match self.rules.overlap {
            Overlap::Allow(places) => places,
            _ => 1,
        }
    }

    fn admit(&mut self, due: Due, occupied: usize) {
        let free = self.places().saturating_sub(occupied);
        let has_place = self.pending.len() < free;
        match self.rules.overlap {
            Overlap::Cancel => {
                self.skip(self.pending.len());
                self.pending = VecDeque::from([due]);
            }
            Overlap::Queue(most) if self.pending.len() < free + most => self.pending.push_back(due),
            Overlap::Wait if self.pending.len() == free => self.pending.push_back(due),
            Overlap::Wait if !has_place => {
                let waiting = self.pending.back_mut().unwrap();
                if due.at >= waiting.at {
                    *waiting = due;
                }
                self.skip(1);
            }
            _ if has_place => self.pending.push_back(due),
            _ => self.skip(1),
        }
    }

    fn judge(&mut self, passed: Vec<(Due, Nanos)>, now: Nanos, busy: usize) {
        let by_clock = self.rules.cadence == Cadence::Clock;
        let passed_over = by_clock && passed.iter().all(|(_, at)| now - at > PASSED_OVER);
        if busy > 0 || passed.len() < if passed_over { 1 } else { 2 } {
            for (due, at) in passed {
                self.admit(due, if at == now { self.running } else { busy });
            }
            return;
        }
        let follows = |last: &Due| last.index + 1 == passed[0].0.index;
        if !self.replay.back().is_some_and(follows) {
            self.miss(self.replay.len());
            self.replay.clear();
        }
        self.replay.extend(passed.iter().map(|(due, _)| due));
        let kept = match self.rules.missed {
            Missed::Skip => 0,
            Missed::Coalesce => 1,
            Missed::Burst(most) => most.min(self.replay.len()),
        };
        let missed = self.replay.len() - kept;
        self.miss(missed);
        self.replay.drain(..missed);
        if self.rules.missed == Missed::Coalesce {
            let newest = self.replay.pop_back().unwrap();
            self.admit(newest, self.running);
        }
    }

    pub(super) fn advance(&mut self, now: Nanos, busy: usize) {
        let passed = self.pass(now);
        self.judge(passed, now, busy);
    }

    pub(super) fn act(&mut self, now: Nanos) -> Option<Action> {
        loop {
            if !self.pending.is_empty() && self.running < self.places() {
                let due = self.pending.pop_front()?;
                self.running += 1;
                if self.rules.cadence == Cadence::Delay {
                    self.next_at = NEVER;
                }
                let jumped = std::mem::take(&mut self.jumped);
                match self.started.last_mut() {
                    Some((from, to)) if !jumped && *from <= due.at => *to = due.at.max(*to),
                    _ => self.started.push((due.at, due.at)),
                }
                let missed = std::mem::take(&mut self.missed_since_start);
                return Some(Action::Start { due, missed });
            }
            if !self.pending.is_empty() && self.rules.overlap == Overlap::Cancel && !self.ending {
                self.ending = true;
                self.replaced += 1;
                let starved = self.replaced == STARVED;
                if starved {
                    self.replaced = 0;
                }
                return Some(Action::Cancel { starved });
            }
            if let Some(due) = self.replay.pop_front() {
                self.admit(due, self.running);
            } else if self.triggered > 0 {
                self.triggered -= 1;
                let index = self.next.index.saturating_sub(1);
                self.admit(Due { index, at: now }, self.running);
            } else {
                return None;
            }
        }
    }

    pub(super) fn ended(&mut self, now: Nanos, count: usize, completed: bool) {
        self.running -= count;
        if completed {
            self.replaced = 0;
        }
        if self.running == 0 {
            self.ending = false;
            if self.rules.cadence == Cadence::Delay {
                self.follow(now, now + self.interval);
            }
        }
    }

    pub(super) fn trigger(&mut self) {
        if self.closed {
            return self.skip(1);
        }
        self.triggered += 1;
    }

    pub(super) fn pause(&mut self, at: Nanos, busy: usize) {
        let delayed = self.rules.cadence == Cadence::Delay;
        let passed = if delayed { 0 } else { self.pass(at - 1).len() };
        let unstarted = passed + self.replay.len();
        if busy > 0 {
            self.skip(unstarted);
        } else {
            self.miss(unstarted);
        }
        self.skip(self.pending.len());
        self.pending.clear();
        self.replay.clear();
        self.triggered = 0;
        self.paused = true;
    }

    pub(super) fn resume(&mut self, at: Nanos) {
        if std::mem::take(&mut self.paused) && self.next_at < at {
            match self.rules.cadence {
                Cadence::Delay => self.follow(at, at + self.interval),
                Cadence::Clock => self.seek(at - 1),
                Cadence::Grid => drop(self.pass(at - 1)),
            }
        }
    }

    pub(super) fn set_interval(&mut self, interval: Nanos, at: Nanos, busy: usize) {
        let delayed = self.rules.cadence == Cadence::Delay;
        if self.rules.cadence == Cadence::Clock {
            return;
        }
        if !delayed {
            let passed = self.pass(at - 1);
            self.judge(passed, at, busy);
        }
        self.interval = interval;
        let Some(last) = self.last else { return };
        if delayed {
            if self.running == 0 && self.next_at >= at {
                self.follow(last, last + interval);
            }
            return;
        }
        let held_back = self.next.at < at && self.next_at >= at;
        if !held_back {
            let mut next = last + interval;
            while next + interval <= at {
                next += interval;
            }
            self.follow(last, next);
        }
    }

    pub(super) fn reset(&mut self, at: Nanos, busy: usize) {
        match self.rules.cadence {
            Cadence::Clock => return,
            Cadence::Delay if self.running > 0 => return,
            Cadence::Delay => {}
            _ => {
                if self.next.at < at {
                    // Jitter holds it back no longer.
                    self.next_at = self.next_at.min(at - 1);
                }
                let passed = self.pass(at - 1);
                self.judge(passed, at, busy);
            }
        }
        self.follow(at, at + self.interval);
    }

    /// The first due time that isn't dealt with.
    pub(super) fn dealt_with(&self) -> Nanos {
        let waiting = self.pending.iter().chain(self.replay.front());
        waiting.map(|due| due.at).fold(self.next.at, Nanos::min)
    }
}
