//! Every policy against a simulation that looks at one due time after the other, over random tick
//! lengths, stalls of the runtime, pauses, triggers, changes of the interval and stops.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use aioxide::{Missed, Overlap, Timer, TimerStats};
use aioxide_tests::timers::ms;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Time passes and the runtime sees each millisecond of it.
    Run(u64),
    /// Time passes in one piece.
    Stall(u64),
    Pause,
    Resume,
    Trigger,
    SetInterval(u64),
}

#[derive(Clone, Debug)]
struct Plan {
    fixed_delay: bool,
    interval: u64,
    first: u64,
    overlap: Overlap,
    missed: Missed,
    grace: u64,
    timeout: Option<u64>,
    /// How long the ticks take, over and over.
    lengths: Vec<u64>,
    ops: Vec<Op>,
    /// Time that passes in one piece before the end, which is asked for before the timer gets to run.
    last_stall: u64,
    /// The end is a `finish` with this timeout, or a `stop`.
    finish: Option<u64>,
}

impl Plan {
    fn length(&self, number: usize) -> u64 {
        self.lengths[number % self.lengths.len()]
    }
}

/// A tick that started: when, which, due when, how many missed before it.
type Start = (u64, u64, u64, u64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stats {
    started: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
    skipped: u64,
    missed: u64,
    running: u64,
}

impl From<TimerStats> for Stats {
    fn from(stats: TimerStats) -> Stats {
        Stats {
            started: stats.started,
            completed: stats.completed,
            failed: stats.failed,
            cancelled: stats.cancelled,
            skipped: stats.skipped,
            missed: stats.missed,
            running: stats.running,
        }
    }
}

async fn settle() {
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
}

fn stall(length: u64) {
    // The clock moves with the first poll; the second would let others run.
    let mut advance = Box::pin(tokio::time::advance(ms(length)));
    let _ = advance
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
}

/// What really happens.
async fn real(plan: &Plan) -> (Vec<Start>, Stats, Stats) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (seen, lengths) = (log.clone(), plan.clone());
    let start = Instant::now();
    let at = move |instant: Instant| (instant - start).as_millis() as u64;
    let mut timer = match plan.fixed_delay {
        true => Timer::after(ms(plan.interval)),
        false => Timer::every(ms(plan.interval)),
    };
    if let Some(timeout) = plan.timeout {
        timer = timer.timeout(ms(timeout));
    }
    let timer = timer
        .first(ms(plan.first))
        .overlap(plan.overlap)
        .missed(plan.missed)
        .grace(ms(plan.grace))
        .start(move |tick| {
            let mut log = seen.lock().unwrap();
            let length = lengths.length(log.len());
            let now = Instant::now();
            assert_eq!(tick.scheduled() + tick.lateness(), now);
            log.push((at(now), tick.index(), at(tick.scheduled()), tick.missed()));
            async move {
                if length > 0 {
                    sleep(ms(length)).await;
                }
            }
        });
    settle().await;
    for op in &plan.ops {
        match *op {
            Op::Run(length) => {
                settle().await;
                sleep(ms(length)).await;
            }
            Op::Stall(length) => {
                settle().await;
                stall(length);
            }
            Op::Pause => timer.pause(),
            Op::Resume => timer.resume(),
            Op::Trigger => timer.trigger(),
            Op::SetInterval(interval) => timer.set_interval(ms(interval)).unwrap(),
        }
        if !matches!(op, Op::Run(_)) {
            settle().await;
        }
    }
    settle().await;
    let before = timer.stats().into();
    stall(plan.last_stall);
    match plan.finish {
        Some(timeout) => drop(timer.finish(ms(timeout)).await),
        None => timer.stop().await,
    }
    let log = log.lock().unwrap().clone();
    (log, before, timer.stats().into())
}

struct Running {
    end: u64,
    times_out: u64,
    drop_at: u64,
    asked: bool,
}

struct Simulation<'p> {
    plan: &'p Plan,
    now: u64,
    interval: u64,
    index: u64,
    next: Option<u64>,
    last: Option<u64>,
    running: Vec<Running>,
    waiting: VecDeque<(u64, u64)>,
    replay: VecDeque<(u64, u64)>,
    triggered: u64,
    paused: bool,
    unheard: u64,
    log: Vec<Start>,
    stats: Stats,
}

impl<'p> Simulation<'p> {
    fn new(plan: &'p Plan) -> Self {
        Simulation {
            plan,
            now: 0,
            interval: plan.interval,
            index: 0,
            next: Some(plan.first),
            last: None,
            running: Vec::new(),
            waiting: VecDeque::new(),
            replay: VecDeque::new(),
            triggered: 0,
            paused: false,
            unheard: 0,
            log: Vec::new(),
            stats: Stats::default(),
        }
    }

    fn places(&self) -> usize {
        match self.plan.overlap {
            Overlap::Allow(cap) => cap,
            _ => 1,
        }
    }

    /// Ticks that have ended by now, then what `op` asks for, then due ticks.
    fn settle(&mut self, op: Option<Op>) {
        let busy = self.running.len();
        self.finish();
        match op {
            Some(Op::Pause) => {
                if !self.plan.fixed_delay && !self.paused {
                    // Whatever was due before has been dealt with.
                    assert!(self.next.is_none_or(|next| next >= self.now));
                }
                self.stats.skipped += self.waiting.len() as u64;
                self.waiting.clear();
                self.paused = true;
            }
            Some(Op::Resume) if self.paused => {
                self.paused = false;
                if self.plan.fixed_delay {
                    if self.next.is_some_and(|next| next < self.now) {
                        self.last = Some(self.now);
                        self.next = Some(self.now + self.interval);
                    }
                } else {
                    while self.next.is_some_and(|next| next < self.now) {
                        self.take();
                    }
                }
            }
            Some(Op::Trigger) => self.triggered += 1,
            Some(Op::SetInterval(interval)) => {
                self.due(self.now.checked_sub(1), busy);
                self.interval = interval;
                // One that has run out in a pause starts again when that ends.
                let run_out =
                    self.plan.fixed_delay && self.next.is_some_and(|next| next < self.now);
                if let (Some(last), Some(_), false) = (self.last, self.next, run_out) {
                    let mut next = last + interval;
                    while !self.plan.fixed_delay && next + interval <= self.now {
                        next += interval;
                    }
                    self.next = Some(next);
                }
            }
            _ => {}
        }
        self.due(Some(self.now), busy);
        self.act();
    }

    fn finish(&mut self) {
        let before = self.running.len();
        for tick in std::mem::take(&mut self.running) {
            if tick.end <= self.now {
                match tick.asked {
                    true => self.stats.cancelled += 1,
                    false => self.stats.completed += 1,
                }
            } else if tick.times_out <= self.now {
                self.stats.failed += 1;
            } else if tick.drop_at <= self.now {
                self.stats.cancelled += 1;
            } else {
                self.running.push(tick);
            }
        }
        self.followed(before);
    }

    fn followed(&mut self, before: usize) {
        if self.plan.fixed_delay && before > 0 && self.running.is_empty() {
            self.last = Some(self.now);
            self.next = Some(self.now + self.interval);
        }
    }

    fn take(&mut self) -> (u64, u64) {
        let at = self.next.expect("a due time");
        let point = (self.index, at);
        self.index += 1;
        if self.plan.fixed_delay {
            self.next = None;
        } else {
            self.last = Some(at);
            self.next = Some(at + self.interval);
        }
        point
    }

    fn due(&mut self, until: Option<u64>, busy: usize) {
        let Some(until) = until.filter(|_| !self.paused) else {
            return;
        };
        let mut others = Vec::new();
        while self.next.is_some_and(|next| next <= until) {
            let point = self.take();
            if busy == 0 {
                others.push(point);
            } else if point.1 < self.now {
                self.admit(point, busy);
            } else {
                self.admit(point, self.running.len());
            }
        }
        let kept = match self.plan.missed {
            _ if others.len() < 2 => others.len(),
            Missed::Skip => 0,
            Missed::Burst(most) => most.min(others.len()),
            _ => 1,
        };
        let missed = (others.len() - kept) as u64;
        self.stats.missed += missed;
        self.unheard += missed;
        self.replay.extend(&others[others.len() - kept..]);
    }

    fn admit(&mut self, point: (u64, u64), occupied: usize) {
        let free = self.places().saturating_sub(occupied);
        let in_line = self.waiting.len().saturating_sub(free);
        match self.plan.overlap {
            Overlap::Cancel => {
                self.stats.skipped += self.waiting.len() as u64;
                self.waiting = VecDeque::from([point]);
            }
            _ if self.waiting.len() < free => self.waiting.push_back(point),
            Overlap::Wait if in_line == 0 => self.waiting.push_back(point),
            Overlap::Wait => {
                self.stats.skipped += 1;
                let last = self.waiting.back_mut().expect("one in line");
                // After a trigger, a new interval may have had a due time before it.
                if point.1 >= last.1 {
                    *last = point;
                }
            }
            Overlap::Queue(most) if in_line < most => self.waiting.push_back(point),
            _ => self.stats.skipped += 1,
        }
    }

    fn act(&mut self) {
        loop {
            if !self.waiting.is_empty() {
                if self.running.len() < self.places() {
                    let (index, at) = self.waiting.pop_front().expect("one waits");
                    self.start(index, at);
                    continue;
                }
                if self.plan.overlap == Overlap::Cancel && !self.running[0].asked {
                    self.ask();
                    continue;
                }
            }
            if let Some(point) = self.replay.pop_front() {
                self.admit(point, self.running.len());
            } else if self.triggered > 0 {
                self.triggered -= 1;
                let point = (self.index.saturating_sub(1), self.now);
                self.admit(point, self.running.len());
            } else {
                return;
            }
        }
    }

    fn ask(&mut self) {
        for tick in &mut self.running {
            tick.asked = true;
            tick.drop_at = self.now + self.plan.grace;
        }
        // Finished ones were dealt with before.
        let before = self.running.len();
        self.running.retain(|tick| tick.drop_at > self.now);
        self.stats.cancelled += (before - self.running.len()) as u64;
        self.followed(before);
    }

    fn start(&mut self, index: u64, at: u64) {
        let length = self.plan.length(self.log.len());
        self.log.push((self.now, index, at, self.unheard));
        self.unheard = 0;
        self.stats.started += 1;
        if self.plan.fixed_delay {
            self.next = None;
        }
        self.running.push(Running {
            end: self.now + length,
            times_out: self
                .plan
                .timeout
                .map_or(u64::MAX, |timeout| self.now + timeout),
            drop_at: u64::MAX,
            asked: false,
        });
        self.finish();
    }

    fn run(mut self) -> (Vec<Start>, Stats, Stats) {
        self.settle(None);
        for op in &self.plan.ops {
            match *op {
                Op::Run(length) => {
                    self.settle(None);
                    for _ in 1..length {
                        self.now += 1;
                        self.settle(None);
                    }
                    self.now += 1;
                }
                Op::Stall(length) => {
                    self.settle(None);
                    self.now += length;
                    self.settle(None);
                }
                op => self.settle(Some(op)),
            }
        }
        self.settle(None);
        let mut before = self.stats;
        before.running = self.running.len() as u64;
        self.now += self.plan.last_stall;
        self.end();
        (self.log, before, self.stats)
    }

    /// The stop, or the `finish` that becomes one: what was due before doesn't start any more. What ticks wait for is
    /// tokio's to see, which it does only after the stall; so none of them has ended when the timer is asked to.
    fn end(&mut self) {
        let busy = self.running.len();
        if !self.plan.fixed_delay && !self.paused {
            while self.next.is_some_and(|next| next < self.now) {
                self.take();
                match busy {
                    0 => self.stats.missed += 1,
                    _ => self.stats.skipped += 1,
                }
            }
        }
        self.stats.skipped += self.waiting.len() as u64;
        let asks_at = self.now + self.plan.finish.unwrap_or(0);
        for tick in std::mem::take(&mut self.running) {
            let (end, times_out) = (tick.end.max(self.now), tick.times_out.max(self.now));
            let completes = !tick.asked && end <= asks_at && end <= times_out;
            let dropped_at = match tick.asked && self.plan.finish.is_some() {
                true => tick.drop_at,
                false => tick.drop_at.min(asks_at + self.plan.grace),
            };
            if completes && asks_at > self.now {
                self.stats.completed += 1;
            } else if times_out < end && times_out <= dropped_at && dropped_at > self.now {
                self.stats.failed += 1;
            } else {
                self.stats.cancelled += 1;
            }
        }
    }
}

fn overlap() -> impl Strategy<Value = Overlap> {
    prop_oneof![
        Just(Overlap::Skip),
        (1..4usize).prop_map(Overlap::Allow),
        Just(Overlap::Wait),
        (1..4usize).prop_map(Overlap::Queue),
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

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..80u64).prop_map(Op::Run),
        3 => (1..120u64).prop_map(Op::Stall),
        1 => Just(Op::Pause),
        1 => Just(Op::Resume),
        1 => Just(Op::Trigger),
        1 => (1..40u64).prop_map(Op::SetInterval),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        prop::bool::weighted(0.15),
        1..30u64,
        prop_oneof![Just(0), 1..50u64],
        overlap(),
        missed(),
        prop_oneof![Just(0), 1..30u64],
        prop::option::weighted(0.3, 1..60u64),
        prop::collection::vec(prop_oneof![Just(0), 1..100u64], 1..6),
        (
            prop::collection::vec(op(), 1..25),
            prop_oneof![Just(0), 1..120u64],
            prop::option::weighted(0.3, 0..60u64),
        ),
    )
        .prop_map(
            |(
                fixed_delay,
                interval,
                first,
                overlap,
                missed,
                grace,
                timeout,
                lengths,
                (ops, last_stall, finish),
            )| Plan {
                fixed_delay,
                interval,
                first,
                overlap,
                missed,
                grace,
                timeout,
                lengths,
                ops,
                last_stall,
                finish,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn timers_do_what_the_simulation_does(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let really = runtime.block_on(real(&plan));
        let simulated = Simulation::new(&plan).run();
        prop_assert_eq!(&really.0, &simulated.0, "starts");
        prop_assert_eq!(really.1, simulated.1, "stats before the stop");
        prop_assert_eq!(really.2, simulated.2, "stats after the stop");
    }
}
