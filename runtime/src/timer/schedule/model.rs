//! The schedule as a whole, over years of random events.

use proptest::prelude::*;

use super::due::{Due, NEVER, Nanos};
use super::irregular::{Dues, Irregular, PASSED_OVER};
use super::machine::{Action, Cadence, Dropped, Rules, Schedule};
use super::policy::{Missed, Overlap};
use super::reference::Reference;

const MS: Nanos = 1_000_000;
const YEAR: Nanos = 365 * 24 * 3600 * 1000 * MS;

/// A clock that is put forward may show a few of these at once.
const UNIT: Nanos = PASSED_OVER / 9;

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

/// What the driver tells, at the instants that matter: at most a few intervals apart.
#[derive(Clone, Copy, Debug)]
enum Told {
    Nothing,
    Ended { count: usize, completed: bool },
    Pause,
    Resume,
    SetInterval(Nanos),
    Reset,
    Trigger,
}

fn told() -> impl Strategy<Value = Told> {
    let ended = (1..4usize, prop::bool::weighted(0.2));
    prop_oneof![
        8 => Just(Told::Nothing),
        6 => ended.prop_map(|(count, completed)| Told::Ended { count, completed }),
        1 => Just(Told::Pause),
        2 => Just(Told::Resume),
        1 => (20..50u64).prop_map(Told::SetInterval),
        1 => Just(Told::Reset),
        2 => Just(Told::Trigger),
    ]
}

/// Few of many steps are done before the next event, now and then.
fn most() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(usize::MAX), 1 => 0..3usize]
}

/// Another runs what is due, or runs it no more.
#[derive(Clone, Copy, Debug)]
enum Opened {
    Close,
    /// It has dealt with what was due until so many units ago.
    Open {
        dealt_with: Option<u64>,
    },
}

fn opened() -> impl Strategy<Value = Option<Opened>> {
    let open = prop::option::of(0..30u64).prop_map(|dealt_with| Opened::Open { dealt_with });
    prop_oneof![
        20 => Just(None),
        1 => Just(Some(Opened::Close)),
        2 => open.prop_map(Some),
    ]
}

/// Tells both.
fn tell(schedule: &mut Schedule, reference: &mut Reference, now: Nanos, told: Told) {
    let busy = schedule.running();
    match told {
        Told::Nothing => {}
        Told::Ended { count, completed } => {
            let count = count.min(busy);
            if count > 0 {
                schedule.ended(now, count, completed);
                reference.ended(now, count, completed);
            }
        }
        Told::Pause if now > 0 => {
            schedule.pause(now, busy);
            reference.pause(now, busy);
        }
        Told::Resume => {
            schedule.resume(now);
            reference.resume(now);
        }
        Told::SetInterval(new) if now > 0 => {
            schedule.set_interval(new, now, busy);
            reference.set_interval(new, now, busy);
        }
        Told::Reset if now > 0 => {
            schedule.reset(now, busy);
            reference.reset(now, busy);
        }
        Told::Trigger => {
            schedule.trigger();
            reference.trigger();
        }
        _ => {}
    }
}

/// Lets both do what there is to do now, or so many steps of it, and compares.
fn go_on(
    schedule: &mut Schedule,
    reference: &mut Reference,
    now: Nanos,
    busy: usize,
    most: usize,
) -> Result<(), TestCaseError> {
    schedule.advance(now, busy);
    reference.advance(now, busy);
    prop_assert_eq!(schedule.dealt_with(), reference.dealt_with());
    let mut at_rest = false;
    for _ in 0..most {
        let expected = reference.act(now);
        prop_assert!(expected.is_none() || schedule.has_to_act());
        prop_assert_eq!(schedule.act(now), expected);
        at_rest = expected.is_none();
        if at_rest {
            break;
        }
    }
    prop_assert!(!at_rest || !schedule.has_to_act());
    let dropped = std::mem::take(&mut reference.dropped);
    prop_assert_eq!(schedule.take_dropped(), dropped);
    let (wake_at, due) = match reference.next_at {
        _ if reference.paused || reference.closed => (NEVER, NEVER),
        NEVER => (NEVER, NEVER),
        at => (at, reference.next.at),
    };
    prop_assert_eq!((schedule.wake_at(), schedule.next_due()), (wake_at, due));
    prop_assert_eq!(schedule.next, reference.next);
    prop_assert_eq!(schedule.running(), reference.running);
    prop_assert_eq!(schedule.is_concurrent(), reference.places() > 1);
    prop_assert_eq!(schedule.interval(), reference.interval);
    prop_assert_eq!(schedule.is_closed(), reference.closed);
    prop_assert_eq!(schedule.newest_passed(), reference.newest_passed);
    Ok(())
}

/// As of a calendar that is known.
#[derive(Debug)]
pub(super) struct Known(pub(super) Vec<Nanos>);

impl Dues for Known {
    fn after(&mut self, at: Nanos) -> Nanos {
        let mut dues = self.0.iter().copied();
        dues.find(|&due| due > at).unwrap_or(NEVER)
    }

    fn count(&mut self, after: Nanos, until: Nanos) -> u64 {
        let within = self.0.iter().filter(|&&due| after < due && due <= until);
        within.count() as u64
    }
}

/// What a timer by a wall clock is told besides.
#[derive(Clone, Copy, Debug)]
enum Shown {
    /// The clock goes on by so many units, and to so much after one.
    On(u64, Nanos),
    /// It is put back, by this.
    Back(Nanos),
}

fn shown() -> impl Strategy<Value = Shown> {
    let after = || prop_oneof![2 => Just(0), 1 => 1..3u64];
    prop_oneof![
        8 => (0..4u64, after()).prop_map(|(units, after)| Shown::On(units, after)),
        2 => (0..30u64, after()).prop_map(|(units, after)| Shown::On(units, after)),
        1 => (0..40u64, 0..3u64).prop_map(|(units, more)| Shown::Back(units * UNIT + more)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// It does what is done by going from one due time to the next.
    #[test]
    fn due_times_are_judged_one_by_one(
        cadence in prop_oneof![4 => Just(Cadence::Grid), 1 => Just(Cadence::Delay)],
        (overlap, missed) in (overlap(), missed()),
        (jitter, shift) in prop_oneof![2 => Just((0, 0)), 1 => (2..20u64, Just(0)), 1 => (Just(0), 1..20u64)],
        (interval, first) in (20..50u64, 0..60u64),
        events in prop::collection::vec((prop_oneof![4 => 0..40u64, 1 => 0..300u64], told(), most()), 1..80),
    ) {
        let rules = Rules { cadence, overlap, missed, jitter, shift };
        let mut schedule = Schedule::new(rules, interval, first, 7);
        let mut reference = Reference::new(rules, interval, first, 7);
        let mut now = 0;
        for (passed, told, most) in events {
            now += passed;
            let busy = schedule.running();
            tell(&mut schedule, &mut reference, now, told);
            go_on(&mut schedule, &mut reference, now, busy, most)?;
        }
    }

    /// By a clock too, wherever it is put.
    #[test]
    fn due_times_by_a_clock_are_judged_one_by_one(
        (overlap, missed) in (overlap(), missed()),
        (jitter, shift) in prop_oneof![2 => Just((0, 0)), 1 => (2..UNIT, Just(0)), 1 => (Just(0), 1..UNIT)],
        dues in prop::collection::btree_set(1..200u64, 0..150),
        events in prop::collection::vec((shown(), told(), opened(), most()), 1..80),
    ) {
        let rules = Rules { cadence: Cadence::Clock, overlap, missed, jitter, shift };
        let dues: Vec<Nanos> = dues.into_iter().map(|due| due * UNIT).collect();
        let mut now = 20 * UNIT;
        let mut schedule = Schedule::by_clock(rules, Box::new(Irregular::new(Known(dues.clone()), now)), now, 7);
        let mut reference = Reference::by_clock(rules, dues.clone(), now, 7);
        for (shown, told, opened, most) in events {
            now = match shown {
                Shown::On(units, after) => now.max((now / UNIT + units) * UNIT + after),
                Shown::Back(by) => now.saturating_sub(by).max(1),
            };
            let busy = schedule.running();
            schedule.look(now);
            reference.look(now);
            tell(&mut schedule, &mut reference, now, told);
            match opened {
                None => {}
                Some(Opened::Close) => {
                    schedule.close();
                    reference.close();
                }
                Some(Opened::Open { dealt_with }) => {
                    let last = dealt_with.map(|ago| now.saturating_sub(ago * UNIT));
                    prop_assert_eq!(schedule.open(last, now), reference.open(last, now));
                }
            }
            prop_assert_eq!(schedule.is_due(now), dues.contains(&now));
            let rounded = now / UNIT * UNIT;
            prop_assert_eq!(schedule.is_due(rounded), dues.contains(&rounded));
            go_on(&mut schedule, &mut reference, now, busy, most)?;
        }
    }

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
        let mut schedule = Schedule::every(interval, overlap, missed, jitter);
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
        let rules = Rules { cadence: Cadence::Delay, overlap: Overlap::Skip, missed: Missed::Coalesce, jitter: 0, shift: 0 };
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
