//! Whether a program waits for itself, as it does when it awaits the end of what waits for the program.

use std::collections::BTreeSet;

use super::{Child, Id, Kind, Model, Phase, SpotId, State};

impl Model {
    /// Those that have been dropped, or may be.
    fn may_be_pending(&self, which: impl Fn(Id) -> bool) -> BTreeSet<Id> {
        let all = 0..self.contexts.len();
        let may_be = |&id: &Id| match self.contexts[id].state {
            State::SettingUp | State::Gone => false,
            State::Entered | State::Leaving(_) => which(id),
        };
        all.filter(may_be).collect()
    }

    fn may_be_pending_inside(&self, outer: Id) -> BTreeSet<Id> {
        self.may_be_pending(|id| self.is_inside(id, outer))
    }

    /// What the end of `id` may have to wait for.
    fn awaited_by(&self, id: Id) -> (BTreeSet<Id>, BTreeSet<SpotId>) {
        if let State::SettingUp | State::Gone = self.contexts[id].state {
            return Default::default();
        }
        let (mut contexts, mut spots) = (self.may_be_pending_inside(id), BTreeSet::new());
        match &self.contexts[id].state {
            State::Leaving(Phase::Before(_)) if self.is_pending(id) => {
                contexts.extend(self.pending_before(id));
            }
            State::Leaving(Phase::Settling(pending)) => contexts.extend(pending),
            _ => {}
        }
        match &self.contexts[id].kind {
            Kind::Told(spot) => spots.extend([*spot]),
            Kind::Group(members) | Kind::Stack(members) => contexts.extend(members),
            Kind::Scope(scope) => {
                contexts.extend(scope.unsettled.iter().flatten());
                spots.extend(&scope.tasks);
                let tasks = scope.tasks.iter().map(|task| self.spots[*task].place);
                for place in tasks.chain(scope.left.iter().copied()) {
                    contexts.extend(self.may_be_pending(|id| self.is_in(id, place)));
                }
            }
        }
        (contexts, spots)
    }

    fn awaited_in(&self, spot: SpotId) -> (BTreeSet<Id>, BTreeSet<SpotId>) {
        let (mut contexts, mut spots) = (BTreeSet::new(), BTreeSet::new());
        for (_, child) in &self.spots[spot].children {
            match child {
                Child::Body(id, body) => {
                    contexts.extend(self.may_be_pending_inside(*id));
                    spots.insert(*body);
                }
                Child::Setup(_, setup) => spots.extend([*setup]),
                Child::Leaving(id) => contexts.extend([*id]),
                Child::Settle(pending) => contexts.extend(pending),
            }
        }
        (contexts, spots)
    }

    /// Whether anything waits, or may come to wait, for itself: a program may await the end of what waits for the
    /// program.
    pub(crate) fn has_circle(&self) -> bool {
        let contexts = self.contexts.len();
        let all = 0..contexts + self.spots.len();
        let awaited = all.map(|node| {
            let (ids, spots) = match node.checked_sub(contexts) {
                None => self.awaited_by(node),
                Some(spot) => self.awaited_in(spot),
            };
            let spots = spots.into_iter().map(|spot| contexts + spot);
            ids.into_iter().chain(spots).collect::<Vec<usize>>()
        });
        let awaited: Vec<Vec<usize>> = awaited.collect();
        // Those are taken away that wait for none of the others, until none is left.
        let mut left: BTreeSet<usize> = (0..awaited.len()).collect();
        loop {
            let waits = |node: &&usize| awaited[**node].iter().any(|node| left.contains(node));
            let waiting: BTreeSet<usize> = left.iter().filter(waits).copied().collect();
            if waiting.len() == left.len() {
                return !left.is_empty();
            }
            left = waiting;
        }
    }
}
