//! Whatever has nothing to wait for goes on.

use std::collections::BTreeSet;

use super::{Child, Id, Kind, Model, OrderId, Phase, State};

impl Model {
    /// Whatever needn't wait goes on.
    pub(super) fn go_on(&mut self) {
        loop {
            let contexts = (0..self.contexts.len()).any(|id| self.goes_on(id));
            let settled = self.settled();
            if !contexts && !settled {
                return;
            }
        }
    }

    fn settled(&mut self) -> bool {
        let children = self.spots.iter().flat_map(|spot| &spot.children);
        let settled = children
            .filter(|(_, child)| matches!(child, Child::Settle(pending) if self.are_over(pending)));
        let settled: BTreeSet<OrderId> = settled.map(|(order, _)| *order).collect();
        for spot in &mut self.spots {
            spot.children.retain(|(order, _)| !settled.contains(order));
        }
        self.done.extend(&settled);
        !settled.is_empty()
    }

    /// A step of the teardown of `id`, if it can make one.
    fn goes_on(&mut self, id: Id) -> bool {
        let context = &self.contexts[id];
        let State::Leaving(phase) = &context.state else {
            return false;
        };
        let is_detached = context.ticket.is_some();
        match phase {
            Phase::Settling(pending) if self.are_over(pending) => {
                let inside = self.pending_inside(id);
                self.contexts[id].state = State::Leaving(Phase::Before(inside));
            }
            Phase::Before(_) if is_detached && self.pending_before(id).is_empty() => self.begin(id),
            Phase::Before(inside) if !is_detached && self.are_over(inside) => self.begin(id),
            Phase::Running => return self.works_on(id),
            Phase::After(_) if is_detached && self.pending_inside(id).is_empty() => self.over(id),
            Phase::After(inside) if !is_detached && self.are_over(inside) => self.over(id),
            _ => return false,
        }
        true
    }

    fn begin(&mut self, id: Id) {
        self.contexts[id].state = State::Leaving(Phase::Running);
        match self.contexts[id].kind.clone() {
            Kind::Told(spot) => self.spots[spot].is_alive = true,
            Kind::Group(members) => members
                .into_iter()
                .for_each(|member| self.leave_member(member)),
            Kind::Stack(_) => {}
            // Its tasks may spawn others for as long as there are any.
            Kind::Scope(_) => {}
        }
    }

    fn leave_member(&mut self, member: Id) {
        let inside = self.pending_inside(member);
        self.contexts[member].state = State::Leaving(Phase::Before(inside));
    }

    /// What a function does by itself once it has begun.
    fn works_on(&mut self, id: Id) -> bool {
        let is_gone = |id: &Id| self.contexts[*id].state == State::Gone;
        let kind = self.contexts[id].kind.clone();
        match &kind {
            Kind::Told(_) => return false,
            Kind::Group(members) if members.iter().all(is_gone) => self.function_ended(id),
            Kind::Group(_) => return false,
            Kind::Stack(members) => match members.iter().rev().find(|member| !is_gone(member)) {
                None => self.function_ended(id),
                Some(&member) if self.is_entered(member) => self.leave_member(member),
                Some(_) => return false,
            },
            Kind::Scope(scope) if !scope.tasks.is_empty() => return false,
            Kind::Scope(scope) => match &scope.unsettled {
                Some(unsettled) if self.are_over(unsettled) => self.function_ended(id),
                Some(_) => return false,
                None => {
                    let left = scope.left.clone();
                    let unsettled =
                        self.pending(|id| left.iter().any(|place| self.is_in(id, *place)));
                    if let Kind::Scope(scope) = &mut self.contexts[id].kind {
                        scope.closed = true;
                        scope.unsettled = Some(unsettled);
                    }
                }
            },
        }
        true
    }

    fn over(&mut self, id: Id) {
        self.contexts[id].state = State::Gone;
        if let Some(order) = self.contexts[id].awaited {
            self.done.insert(order);
            self.remove_child(|child| *child == Child::Leaving(id));
        }
    }
}
