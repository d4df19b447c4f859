//! What workers have counted, over all lives of a slot: no sum ever falls.

use std::collections::{BTreeMap, BTreeSet};

use crate::server::line::{CountKey, Figures, Role};
use crate::server::supervisor::WorkerId;

/// How many workers are remembered that have ended, so that what is said of them late counts no more.
const ENDED: usize = 10_000;

#[derive(Default)]
pub(super) struct Ledger {
    lives: BTreeMap<WorkerId, (Role, Figures)>,
    /// What those have counted that have ended.
    sums: BTreeMap<Role, BTreeMap<CountKey, f64>>,
    ended: BTreeSet<WorkerId>,
}

impl Ledger {
    /// Answers may come in another order than they were given.
    pub(super) fn seen(&mut self, id: WorkerId, role: Role, mut figures: Figures) {
        if self.ended.contains(&id) {
            return;
        }
        if let Some((_, before)) = self.lives.get(&id) {
            let before = before.counts.iter();
            let mut most: BTreeMap<CountKey, f64> = before
                .map(|count| (count.key.clone(), count.value))
                .collect();
            for count in &mut figures.counts {
                let before = most.remove(&count.key).unwrap_or(0.0);
                count.value = count.value.max(before);
            }
            let missing = most.into_iter();
            figures
                .counts
                .extend(missing.map(|(key, value)| crate::server::line::Count { key, value }));
        }
        self.lives.insert(id, (role, figures));
    }

    /// A worker has ended; these are its last figures, if it had the time to tell them.
    pub(super) fn ended(&mut self, id: WorkerId, last: Option<(Role, Figures)>) {
        if let Some((role, figures)) = last {
            self.seen(id, role, figures);
        }
        if !self.ended.insert(id) {
            return;
        }
        if self.ended.len() > ENDED {
            self.ended.pop_first();
        }
        if let Some((role, figures)) = self.lives.remove(&id) {
            let sums = self.sums.entry(role).or_default();
            for count in figures.counts {
                *sums.entry(count.key).or_default() += count.value;
            }
        }
    }

    /// Whoever isn't among those that live has ended.
    pub(super) fn settle(&mut self, living: &BTreeSet<WorkerId>) {
        let gone = self.lives.keys().filter(|id| !living.contains(id));
        for id in gone.copied().collect::<Vec<_>>() {
            self.ended(id, None);
        }
    }

    /// The last figures that are known of a worker that lives.
    pub(super) fn figures(&self, id: WorkerId) -> Option<&Figures> {
        self.lives.get(&id).map(|(_, figures)| figures)
    }

    /// The sums of all lives, those that go on included.
    pub(super) fn totals(&self) -> BTreeMap<(CountKey, Role), f64> {
        let mut totals = BTreeMap::new();
        for (role, sums) in &self.sums {
            for (key, value) in sums {
                totals.insert((key.clone(), *role), *value);
            }
        }
        for (role, figures) in self.lives.values() {
            for count in &figures.counts {
                *totals.entry((count.key.clone(), *role)).or_default() += count.value;
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::line::Count;

    use proptest::prelude::*;

    const ROLE: Role = Role::Slot(0);

    fn figures(connections: f64) -> Figures {
        Figures {
            counts: vec![Count::of("connections", connections)],
            ..Figures::default()
        }
    }

    fn total(ledger: &Ledger) -> f64 {
        ledger.totals().values().sum()
    }

    #[test]
    fn lives_of_a_slot_are_added_up() {
        let mut ledger = Ledger::default();
        ledger.seen(WorkerId(0), ROLE, figures(3.0));
        ledger.seen(WorkerId(1), ROLE, figures(1.0));
        assert_eq!(total(&ledger), 4.0);
        ledger.ended(WorkerId(0), Some((ROLE, figures(5.0))));
        assert_eq!(total(&ledger), 6.0);
        // Told late, and of one that was killed.
        ledger.seen(WorkerId(0), ROLE, figures(4.0));
        ledger.settle(&BTreeSet::new());
        assert_eq!(total(&ledger), 6.0);
        assert!(ledger.figures(WorkerId(1)).is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Seen(u64, u32),
        Ended(u64, Option<u32>),
        Settle(Vec<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6_u64, 0..100_u32).prop_map(|(id, value)| Step::Seen(id, value)),
            1 => (0..6_u64, proptest::option::of(0..100_u32)).prop_map(|(id, value)| Step::Ended(id, value)),
            1 => proptest::collection::vec(0..6_u64, 0..6).prop_map(Step::Settle),
        ]
    }

    proptest! {
        /// In whatever order it is told, and whoever is killed.
        #[test]
        fn no_sum_ever_falls(steps in proptest::collection::vec(step(), 0..60)) {
            let mut ledger = Ledger::default();
            let mut before = 0.0;
            for step in steps {
                match step {
                    Step::Seen(id, value) => ledger.seen(WorkerId(id), ROLE, figures(value.into())),
                    Step::Ended(id, last) => {
                        let last = last.map(|value| (ROLE, figures(value.into())));
                        ledger.ended(WorkerId(id), last);
                    }
                    Step::Settle(living) => {
                        ledger.settle(&living.into_iter().map(WorkerId).collect());
                    }
                }
                let now = total(&ledger);
                prop_assert!(now >= before, "{before} then {now}");
                before = now;
            }
        }
    }
}
