//! The schedule as a whole, over years of random events.

use proptest::prelude::*;

use super::due::{Due, Nanos};
use super::machine::{Action, Cadence, Dropped, Rules, Schedule};
use super::policy::{Missed, Overlap};

const MS: Nanos = 1_000_000;
const YEAR: Nanos = 365 * 24 * 3600 * 1000 * MS;

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
