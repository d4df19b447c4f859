//! Who is in a scope, and what is to be done about it: no task, lock or clock in here.

use std::time::Duration;

use slab::Slab;

/// What a task is to its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The scope waits for it.
    Spawned,
    /// It is asked to end when no spawned one is left.
    Supervised,
    /// The scope's own: a grace or a deadline that passes. It is aborted when no other is left.
    Timer,
}

/// Names a task of a scope, for good: its place may be taken by another later on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: usize,
    serial: u64,
}

struct Entry<A> {
    serial: u64,
    kind: Kind,
    /// By which it is aborted; `None` until it is started, and once it is aborted.
    abort: Option<A>,
    aborted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// All are asked to end, and have the grace for it.
    Asked,
    /// All are aborted, or there were none.
    Aborted,
}

/// What is to be done once the lock is released.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Effects<A> {
    /// Tasks to abort.
    pub(super) abort: Vec<A>,
    /// All are now asked to end.
    pub(super) asked: bool,
    /// A grace begins now.
    pub(super) grace: Option<Duration>,
    /// The last one has ended, after the body.
    pub(super) over: bool,
}

impl<A> Effects<A> {
    fn none() -> Self {
        Effects {
            abort: Vec::new(),
            asked: false,
            grace: None,
            over: false,
        }
    }
}

pub(super) struct Members<A> {
    pub(super) grace: Duration,
    entries: Slab<Entry<A>>,
    next_serial: u64,
    spawned: usize,
    supervised: usize,
    phase: Phase,
    /// The body of the scope, or whoever holds its guard, is still there.
    body: bool,
}

impl<A> Members<A> {
    pub(super) fn new() -> Self {
        Members {
            grace: Duration::ZERO,
            entries: Slab::new(),
            next_serial: 0,
            spawned: 0,
            supervised: 0,
            phase: Phase::Open,
            body: true,
        }
    }

    /// Whether all are asked to end, or have ended.
    pub(super) fn is_asked(&self) -> bool {
        self.phase != Phase::Open
    }

    pub(super) fn is_over(&self) -> bool {
        !self.body && self.entries.is_empty()
    }

    /// The number of tasks, without the scope's own.
    pub(super) fn len(&self) -> usize {
        self.spawned + self.supervised
    }

    /// A task is about to be started; `None` if it is too late for that.
    pub(super) fn admit(&mut self, kind: Kind) -> Option<Key> {
        match kind {
            Kind::Spawned | Kind::Supervised if self.is_asked() => return None,
            Kind::Spawned => self.spawned += 1,
            Kind::Supervised => self.supervised += 1,
            Kind::Timer if self.phase == Phase::Aborted => return None,
            Kind::Timer => {}
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let index = self.entries.insert(Entry {
            serial,
            kind,
            abort: None,
            aborted: false,
        });
        Some(Key { index, serial })
    }

    fn entry(&mut self, key: Key) -> Option<&mut Entry<A>> {
        let entry = self.entries.get_mut(key.index)?;
        (entry.serial == key.serial).then_some(entry)
    }

    /// A task is started, and may have ended already. Gives `abort` back if it is to be used at once.
    #[must_use]
    pub(super) fn started(&mut self, key: Key, abort: A) -> Option<A> {
        match self.entry(key) {
            Some(entry) if entry.aborted => Some(abort),
            Some(entry) => {
                entry.abort = Some(abort);
                None
            }
            None => None,
        }
    }

    /// A task has ended, in whichever way.
    pub(super) fn ended(&mut self, key: Key) -> Effects<A> {
        let mut effects = Effects::none();
        let Some(entry) = self.entry(key) else {
            return effects;
        };
        match entry.kind {
            Kind::Spawned => self.spawned -= 1,
            Kind::Supervised => self.supervised -= 1,
            Kind::Timer => {}
        }
        self.entries.remove(key.index);
        self.go_on(&mut effects);
        effects
    }

    /// All are to end: at once, or within the grace.
    pub(super) fn cancel(&mut self) -> Effects<A> {
        let mut effects = Effects::none();
        self.ask(&mut effects);
        self.go_on(&mut effects);
        effects
    }

    /// The grace has passed.
    pub(super) fn abort(&mut self) -> Effects<A> {
        let mut effects = Effects::none();
        effects.asked = self.phase == Phase::Open;
        self.abort_all(&mut effects);
        self.go_on(&mut effects);
        effects
    }

    /// The body has ended: all others may, or are to.
    pub(super) fn body_ended(&mut self, success: bool) -> Effects<A> {
        let mut effects = Effects::none();
        self.body = false;
        if !success {
            self.ask(&mut effects);
        }
        self.go_on(&mut effects);
        effects
    }

    fn ask(&mut self, effects: &mut Effects<A>) {
        if self.phase != Phase::Open {
            return;
        }
        effects.asked = true;
        if self.grace.is_zero() || self.len() == 0 {
            self.abort_all(effects);
        } else {
            self.phase = Phase::Asked;
            effects.grace = Some(self.grace);
        }
    }

    fn abort_all(&mut self, effects: &mut Effects<A>) {
        if self.phase < Phase::Aborted {
            self.phase = Phase::Aborted;
            self.abort_each(effects, |kind| kind != Kind::Timer);
        }
    }

    fn abort_each(&mut self, effects: &mut Effects<A>, which: impl Fn(Kind) -> bool) {
        for (_, entry) in &mut self.entries {
            if which(entry.kind) {
                entry.aborted = true;
                effects.abort.extend(entry.abort.take());
            }
        }
    }

    /// What follows from who is left.
    fn go_on(&mut self, effects: &mut Effects<A>) {
        if self.body || self.spawned > 0 {
            return;
        }
        self.ask(effects);
        if self.supervised == 0 {
            self.phase = Phase::Aborted;
            self.abort_each(effects, |kind| kind == Kind::Timer);
            effects.over = self.entries.is_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(1);

    fn members(grace: Duration) -> Members<u32> {
        let mut members = Members::new();
        members.grace = grace;
        members
    }

    fn start(members: &mut Members<u32>, kind: Kind, id: u32) -> Key {
        let key = members.admit(kind).expect("it is open");
        assert_eq!(members.started(key, id), None);
        key
    }

    #[test]
    fn spawned_ones_are_waited_for_and_supervised_ones_then_asked() {
        let mut members = members(Duration::ZERO);
        let spawned = start(&mut members, Kind::Spawned, 1);
        let supervised = start(&mut members, Kind::Supervised, 2);
        assert_eq!(members.body_ended(true), Effects::none());
        let late = start(&mut members, Kind::Spawned, 3);
        assert_eq!(members.ended(spawned), Effects::none());
        let effects = members.ended(late);
        assert_eq!((effects.asked, effects.abort), (true, vec![2]));
        assert!(members.admit(Kind::Spawned).is_none());
        assert!(members.ended(supervised).over);
        assert!(members.is_over());
    }

    #[test]
    fn a_failed_body_ends_all() {
        let mut members = members(Duration::ZERO);
        let key = start(&mut members, Kind::Spawned, 1);
        let effects = members.body_ended(false);
        assert_eq!((effects.asked, effects.abort), (true, vec![1]));
        assert!(members.ended(key).over);
    }

    #[test]
    fn a_grace_passes_before_any_is_aborted() {
        let mut members = members(GRACE);
        let key = start(&mut members, Kind::Spawned, 1);
        let effects = members.cancel();
        assert_eq!(
            (effects.grace, effects.abort, effects.asked),
            (Some(GRACE), vec![], true)
        );
        let timer = start(&mut members, Kind::Timer, 9);
        assert!(members.admit(Kind::Spawned).is_none());
        assert_eq!(members.cancel(), Effects::none(), "once is enough");
        assert_eq!(members.abort().abort, [1]);
        assert_eq!(members.body_ended(true), Effects::none());
        let effects = members.ended(key);
        assert_eq!((effects.abort, effects.over), (vec![9], false));
        assert!(members.ended(timer).over);
    }

    #[test]
    fn without_a_task_there_is_no_grace() {
        let mut members = members(GRACE);
        let effects = members.cancel();
        assert_eq!((effects.grace, effects.asked), (None, true));
        assert!(members.admit(Kind::Timer).is_none());
        assert!(members.body_ended(true).over);
    }

    #[test]
    fn one_that_is_aborted_while_it_is_started_is_aborted_then() {
        let mut members = members(Duration::ZERO);
        let key = members.admit(Kind::Spawned).expect("it is open");
        assert!(members.cancel().abort.is_empty());
        assert_eq!(members.started(key, 1), Some(1));
        let _ = members.ended(key);
        assert_eq!(members.started(key, 1), None, "it has ended");
    }

    #[test]
    fn a_place_that_is_taken_again_is_anothers() {
        let mut members = members(Duration::ZERO);
        let first = members.admit(Kind::Spawned).expect("it is open");
        let _ = members.ended(first);
        let second = start(&mut members, Kind::Spawned, 2);
        assert_eq!(first.index, second.index);
        assert_eq!(members.started(first, 1), None);
        assert_eq!(members.ended(first), Effects::none());
        assert_eq!(members.cancel().abort, [2]);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Admit(Kind),
        Start(prop::sample::Index),
        End(prop::sample::Index),
        Cancel,
        BodyEnded(bool),
        GracePassed,
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Spawned), Just(Kind::Supervised)]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => kind().prop_map(Event::Admit),
            4 => any::<prop::sample::Index>().prop_map(Event::Start),
            4 => any::<prop::sample::Index>().prop_map(Event::End),
            1 => Just(Event::Cancel),
            1 => any::<bool>().prop_map(Event::BodyEnded),
            1 => Just(Event::GracePassed),
        ]
    }

    #[derive(Debug)]
    struct Alive {
        id: u32,
        kind: Kind,
        key: Key,
        started: bool,
        aborted: bool,
    }

    /// The scope's driver, and what each of its tasks has been told.
    struct World {
        members: Members<u32>,
        alive: Vec<Alive>,
        next: u32,
        asked: bool,
        grace: bool,
        over: bool,
        body: bool,
    }

    impl World {
        fn admit(&mut self, kind: Kind) {
            let asked = self.asked && kind != Kind::Timer;
            let key = self.members.admit(kind);
            assert_eq!(key.is_none(), asked || self.over, "{kind:?}");
            let Some(key) = key else { return };
            self.alive.push(Alive {
                id: self.next,
                kind,
                key,
                started: false,
                aborted: false,
            });
            self.next += 1;
        }

        fn apply(&mut self, effects: Effects<u32>) {
            for id in effects.abort {
                let task = self.alive.iter_mut().find(|task| task.id == id);
                let task = task.expect("what is aborted is alive");
                assert!(task.started && !task.aborted, "{task:?}");
                task.aborted = true;
            }
            assert!(!(effects.asked && self.asked), "asked twice");
            self.asked |= effects.asked;
            assert!(!(effects.over && self.over), "over twice");
            self.over |= effects.over;
            if effects.grace.is_some() {
                assert!(!self.grace, "two graces");
                self.grace = true;
                self.admit(Kind::Timer);
            }
        }

        fn start(&mut self, at: usize) {
            let task = &mut self.alive[at];
            if !task.started {
                task.started = true;
                let abort = self.members.started(task.key, task.id);
                task.aborted |= abort.is_some();
            }
        }

        fn end(&mut self, at: usize) {
            let task = self.alive.swap_remove(at);
            if task.kind == Kind::Timer {
                let effects = self.members.abort();
                self.apply(effects);
            }
            let effects = self.members.ended(task.key);
            self.apply(effects);
        }
    }

    proptest! {
        /// Whatever happens in whatever order: a task is aborted at most once, and only after all were asked to
        /// end; none enters a scope that was asked to end; the scope is over exactly when body and tasks are.
        #[test]
        fn a_scope_comes_to_its_end(
            grace in prop_oneof![Just(Duration::ZERO), Just(GRACE)],
            events in proptest::collection::vec(event(), 0..80),
            ends in proptest::collection::vec(any::<prop::sample::Index>(), 1..20),
        ) {
            let mut world = World {
                members: members(grace),
                alive: Vec::new(),
                next: 0,
                asked: false,
                grace: false,
                over: false,
                body: true,
            };
            let ends = ends.iter().cycle().map(|index| Event::End(*index));
            let closing = std::iter::once(Event::BodyEnded(true)).chain(ends);
            for event in events.into_iter().chain(closing) {
                match event {
                    Event::Admit(kind) => world.admit(kind),
                    Event::Start(index) if !world.alive.is_empty() => {
                        world.start(index.index(world.alive.len()));
                    }
                    Event::End(index) if !world.alive.is_empty() => {
                        // Only a timer is nothing that ends by itself.
                        world.end(index.index(world.alive.len()));
                    }
                    Event::Start(_) | Event::End(_) => {}
                    Event::Cancel => {
                        let effects = world.members.cancel();
                        world.apply(effects);
                    }
                    Event::BodyEnded(success) if world.body => {
                        world.body = false;
                        let effects = world.members.body_ended(success);
                        world.apply(effects);
                    }
                    Event::BodyEnded(_) => {}
                    Event::GracePassed => {
                        let timer = world.alive.iter().position(|task| task.kind == Kind::Timer);
                        if let Some(timer) = timer {
                            world.end(timer);
                        }
                    }
                }
                prop_assert_eq!(world.asked, world.members.is_asked());
                prop_assert_eq!(world.over, !world.body && world.alive.is_empty());
                prop_assert_eq!(world.over, world.members.is_over());
                let tasks = || world.alive.iter().filter(|task| task.kind != Kind::Timer);
                prop_assert_eq!(world.members.len(), tasks().count());
                prop_assert!(world.asked || tasks().all(|task| !task.aborted));
                let spawned = tasks().any(|task| task.kind == Kind::Spawned);
                prop_assert!(world.body || spawned || world.asked, "nobody was told that it is time");
                if world.asked && grace.is_zero() {
                    prop_assert!(tasks().all(|task| task.aborted || !task.started));
                }
                if world.over {
                    break;
                }
            }
            prop_assert!(world.over);
        }
    }
}
