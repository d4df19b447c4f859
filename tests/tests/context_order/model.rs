//! What the order of teardowns says of a program: which of them run, and which wait for what. Slow and obvious; no task,
//! future or lock in here.
//!
//! It follows the rules of `aioxide::teardown` by looking through all contexts at every step. For every pair of
//! teardowns it says whether one has to wait for the other ([`Model::goes_before`] and [`Model::is_inside`]); what needn't
//! wait for anything has to run.

mod circle;
mod progress;

use std::collections::BTreeSet;
use std::fmt;

/// Of a context.
pub(crate) type Id = usize;
/// Of a place.
pub(crate) type PlaceId = usize;
/// Of something that does what it is told in a place: a task, the body of a `with`, a function before or after its yield.
pub(crate) type SpotId = usize;
/// Of something that is awaited.
pub(crate) type OrderId = usize;

/// Where something is: at a number in a place. It has none as long as it is being set up and nothing is in it.
#[derive(Clone, Debug)]
struct Site {
    place: PlaceId,
    at: Option<u64>,
}

#[derive(Clone, Debug)]
struct Place {
    /// Where it is inside another one; a task's is in none.
    site: Option<usize>,
    /// How many have been entered in it.
    entered: u64,
}

/// What a context's function does after its yield.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// It does what it is told.
    Told(SpotId),
    /// It leaves its members: all at once, or one after the other.
    Group(Vec<Id>),
    Stack(Vec<Id>),
    /// It waits for its tasks, and then for what those have left.
    Scope(ScopeState),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ScopeState {
    tasks: BTreeSet<SpotId>,
    /// No further task is taken in.
    closed: bool,
    /// Its tasks are aborted.
    cancelled: bool,
    /// The places of those that have ended, where something was pending then.
    left: Vec<PlaceId>,
    /// What is waited for, once all tasks have ended.
    unsettled: Option<BTreeSet<Id>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    SettingUp,
    Entered,
    Leaving(Phase),
    Gone,
}

/// How far a teardown is. Sets are those that were pending when the wait began.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Something has failed where it is awaited: for what is pending there.
    Settling(BTreeSet<Id>),
    /// For what is inside; a detached one waits for all that [go before](Model::goes_before).
    Before(BTreeSet<Id>),
    Running,
    /// Its function has ended: for what is inside.
    After(BTreeSet<Id>),
}

#[derive(Clone, Debug)]
pub(crate) struct Ctx {
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// The place of its function.
    pub(crate) function: PlaceId,
    site: usize,
    /// Present if it is detached: the order in which they were dropped.
    ticket: Option<u64>,
    /// It was dropped when it had begun.
    begun: bool,
    /// Its end is told to.
    awaited: Option<OrderId>,
}

/// What is polled in a spot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Child {
    /// The body of a `with`.
    Body(Id, SpotId),
    /// A function before its yield.
    Setup(Id, SpotId),
    /// The rest of a teardown.
    Leaving(Id),
    Settle(BTreeSet<Id>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Role {
    Task,
    Body(Id),
    Setup(Id),
    Teardown(Id),
    /// A task of a scope.
    TaskOf(Id),
}

#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) place: PlaceId,
    pub(crate) role: Role,
    pub(crate) is_alive: bool,
    /// By the orders they come from, in that order.
    pub(crate) children: Vec<(OrderId, Child)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    places: Vec<Place>,
    sites: Vec<Site>,
    pub(crate) contexts: Vec<Ctx>,
    pub(crate) spots: Vec<Spot>,
    next_ticket: u64,
    /// What has been awaited to its end.
    pub(crate) done: BTreeSet<OrderId>,
}

impl Model {
    // Where things are.

    fn place(&mut self, site: Option<usize>) -> PlaceId {
        self.places.push(Place { site, entered: 0 });
        self.places.len() - 1
    }

    fn site(&mut self, place: PlaceId, at: Option<u64>) -> usize {
        self.sites.push(Site { place, at });
        self.sites.len() - 1
    }

    fn next(&mut self, place: PlaceId) -> u64 {
        self.places[place].entered += 1;
        self.places[place].entered
    }

    /// Something begins in it. What is being set up is then entered for the time being: it is entered anew at its yield.
    fn touch(&mut self, place: PlaceId) {
        if let Some(site) = self.places[place].site
            && self.sites[site].at.is_none()
        {
            let outer = self.sites[site].place;
            self.sites[site].at = Some(self.next(outer));
        }
    }

    /// From the context outwards: in which place it is, and at which number there.
    fn path(&self, id: Id) -> Vec<(PlaceId, u64)> {
        let mut path = Vec::new();
        let mut site = Some(self.contexts[id].site);
        while let Some(at) = site.map(|site| &self.sites[site]) {
            path.push((at.place, at.at.expect("it is entered")));
            site = self.places[at.place].site;
        }
        path
    }

    /// Whether `inner` was entered inside `outer`: in its body, its function, or what those contain.
    pub(crate) fn is_inside(&self, inner: Id, outer: Id) -> bool {
        self.path(inner)[1..].contains(&self.path(outer)[0])
    }

    /// Whether `first` has to be over before `second` begins, if both are dropped, and `first` is dropped first: it is
    /// inside, or has an ancestor in the place of `second` (or is there itself) that was entered after it.
    fn goes_before(&self, first: Id, second: Id) -> bool {
        let (place, own) = self.path(second)[0];
        let later = |&(at, number): &(PlaceId, u64)| at == place && number > own;
        self.is_inside(first, second) || self.path(first).iter().any(later)
    }

    fn is_in(&self, id: Id, place: PlaceId) -> bool {
        self.path(id).iter().any(|(at, _)| *at == place)
    }

    // What is going on.

    fn is_pending(&self, id: Id) -> bool {
        let context = &self.contexts[id];
        context.ticket.is_some() && context.state != State::Gone
    }

    fn pending(&self, which: impl Fn(Id) -> bool) -> BTreeSet<Id> {
        let all = 0..self.contexts.len();
        all.filter(|&id| self.is_pending(id) && which(id)).collect()
    }

    /// How many detached teardowns are pending.
    pub(crate) fn count(&self) -> usize {
        self.pending(|_| true).len()
    }

    fn pending_inside(&self, outer: Id) -> BTreeSet<Id> {
        self.pending(|id| self.is_inside(id, outer))
    }

    fn pending_in(&self, place: PlaceId) -> BTreeSet<Id> {
        self.pending(|id| self.is_in(id, place))
    }

    /// What a detached teardown that hasn't begun waits for.
    fn pending_before(&self, id: Id) -> BTreeSet<Id> {
        let ticket = self.contexts[id].ticket;
        self.pending(|other| self.contexts[other].ticket < ticket && self.goes_before(other, id))
    }

    fn are_over(&self, ids: &BTreeSet<Id>) -> bool {
        ids.iter().all(|id| !self.is_pending(*id))
    }

    /// The contexts whose functions are told what to do in their teardowns.
    pub(crate) fn running(&self) -> BTreeSet<Id> {
        let all = 0..self.contexts.len();
        let running = |&id: &Id| {
            let context = &self.contexts[id];
            context.state == State::Leaving(Phase::Running) && matches!(context.kind, Kind::Told(_))
        };
        all.filter(running).collect()
    }

    pub(crate) fn is_entered(&self, id: Id) -> bool {
        self.contexts[id].state == State::Entered
    }

    pub(crate) fn takes_tasks(&self, id: Id) -> bool {
        matches!(&self.contexts[id].kind, Kind::Scope(scope) if !scope.closed)
    }

    /// What a scope waits for is about to be settled: something that is dropped now may be waited for, or not.
    pub(crate) fn is_settling_a_scope(&self) -> bool {
        self.contexts.iter().any(|context| {
            let Kind::Scope(scope) = &context.kind else {
                return false;
            };
            scope
                .unsettled
                .as_ref()
                .is_some_and(|unsettled| !self.are_over(unsettled))
        })
    }

    // What happens.

    fn spot(&mut self, place: PlaceId, role: Role, is_alive: bool) -> SpotId {
        self.spots.push(Spot {
            place,
            role,
            is_alive,
            children: Vec::new(),
        });
        self.spots.len() - 1
    }

    /// A task that inherits no place.
    pub(crate) fn task(&mut self) -> SpotId {
        let place = self.place(None);
        self.spot(place, Role::Task, true)
    }

    fn context(&mut self, place: PlaceId, at: Option<u64>, kind: Kind, state: State) -> Id {
        let site = self.site(place, at);
        let function = self.place(Some(site));
        self.contexts.push(Ctx {
            kind,
            state,
            function,
            site,
            ticket: None,
            begun: false,
            awaited: None,
        });
        self.contexts.len() - 1
    }

    fn told(&mut self, place: PlaceId, at: Option<u64>, state: State) -> (Id, SpotId) {
        let id = self.context(place, at, Kind::Told(0), state);
        let teardown = self.spot(self.contexts[id].function, Role::Teardown(id), false);
        self.contexts[id].kind = Kind::Told(teardown);
        (id, teardown)
    }

    /// One whose function is told what to do in its teardown; its spot is that of the latter.
    pub(crate) fn enter(&mut self, place: PlaceId) -> (Id, SpotId) {
        self.touch(place);
        let at = self.next(place);
        self.told(place, Some(at), State::Entered)
    }

    /// A group, and its members: each has a place of its own, and no order is kept between them.
    pub(crate) fn group(&mut self, place: PlaceId, members: usize) -> (Id, Vec<(Id, SpotId)>) {
        self.touch(place);
        let at = self.next(place);
        let group = self.context(place, Some(at), Kind::Group(Vec::new()), State::Entered);
        let function = self.contexts[group].function;
        let members: Vec<_> = (0..members)
            .map(|_| {
                let site = self.site(function, Some(0));
                let own = self.place(Some(site));
                self.told(own, Some(1), State::Entered)
            })
            .collect();
        self.contexts[group].kind = Kind::Group(members.iter().map(|(id, _)| *id).collect());
        (group, members)
    }

    /// The guards of a group are taken out of it, and nothing is left of it.
    pub(crate) fn emptied(&mut self, group: Id) {
        self.contexts[group].state = State::Gone;
    }

    /// A stack, and what is entered in it; what is pushed onto it was entered elsewhere.
    pub(crate) fn stack(
        &mut self,
        place: PlaceId,
        members: usize,
        pushed: &[Id],
    ) -> (Id, Vec<(Id, SpotId)>) {
        self.touch(place);
        let at = self.next(place);
        let stack = self.context(place, Some(at), Kind::Stack(Vec::new()), State::Entered);
        let function = self.contexts[stack].function;
        let members: Vec<_> = (0..members).map(|_| self.enter(function)).collect();
        let all = members
            .iter()
            .map(|(id, _)| *id)
            .chain(pushed.iter().copied());
        self.contexts[stack].kind = Kind::Stack(all.collect());
        (stack, members)
    }

    pub(crate) fn scope(&mut self, place: PlaceId) -> Id {
        self.touch(place);
        let at = self.next(place);
        self.context(
            place,
            Some(at),
            Kind::Scope(ScopeState::default()),
            State::Entered,
        )
    }

    /// A task of a scope, spawned in `place`.
    pub(crate) fn spawn(&mut self, scope: Id, place: PlaceId) -> SpotId {
        self.touch(place);
        let at = self.next(place);
        let site = self.site(place, Some(at));
        let own = self.place(Some(site));
        let spot = self.spot(own, Role::TaskOf(scope), true);
        if let Kind::Scope(scope) = &mut self.contexts[scope].kind {
            scope.tasks.insert(spot);
        }
        spot
    }

    /// `with`: gives the context, the spot of its teardown, and that of the body.
    pub(crate) fn with(&mut self, order: OrderId, spot: SpotId) -> (Id, SpotId, SpotId) {
        let (id, teardown) = self.enter(self.spots[spot].place);
        let body = self.place(Some(self.contexts[id].site));
        let body = self.spot(body, Role::Body(id), true);
        self.spots[spot]
            .children
            .push((order, Child::Body(id, body)));
        (id, teardown, body)
    }

    /// One that is told what to do in its setup, too: gives the context, the spot of its teardown, and that of its setup.
    pub(crate) fn set_up(&mut self, order: OrderId, spot: SpotId) -> (Id, SpotId, SpotId) {
        let place = self.spots[spot].place;
        self.touch(place);
        let (id, teardown) = self.told(place, None, State::SettingUp);
        let setup = self.spot(self.contexts[id].function, Role::Setup(id), true);
        self.spots[spot]
            .children
            .push((order, Child::Setup(id, setup)));
        (id, teardown, setup)
    }

    pub(crate) fn settle(&mut self, order: OrderId, spot: SpotId) {
        let place = self.spots[spot].place;
        self.touch(place);
        let pending = self.pending_in(place);
        self.spots[spot]
            .children
            .push((order, Child::Settle(pending)));
        self.go_on();
    }

    /// A guard is dropped.
    pub(crate) fn drop(&mut self, id: Id) {
        self.cancel(id);
        self.detach(id, false);
        self.go_on();
    }

    /// A guard's exit is awaited in a spot.
    pub(crate) fn exit(&mut self, order: OrderId, id: Id, spot: SpotId, success: bool) {
        let phase = if success {
            Phase::Before(self.pending_inside(id))
        } else {
            self.cancel(id);
            let place = self.spots[spot].place;
            self.touch(place);
            Phase::Settling(self.pending_in(place))
        };
        self.contexts[id].awaited = Some(order);
        self.contexts[id].state = State::Leaving(phase);
        self.spots[spot].children.push((order, Child::Leaving(id)));
        self.go_on();
    }

    /// A scope that is left other than with success: its tasks are aborted.
    fn cancel(&mut self, id: Id) {
        if let Kind::Scope(scope) = &mut self.contexts[id].kind {
            scope.closed = true;
            scope.cancelled = true;
        }
    }

    /// Tasks that are about to be dropped, in whatever order.
    pub(crate) fn aborted(&self) -> BTreeSet<SpotId> {
        let scopes = self
            .contexts
            .iter()
            .filter_map(|context| match &context.kind {
                Kind::Scope(scope) if scope.cancelled => Some(&scope.tasks),
                _ => None,
            });
        scopes.flatten().copied().collect()
    }

    fn detach(&mut self, id: Id, begun: bool) {
        self.next_ticket += 1;
        let context = &mut self.contexts[id];
        context.ticket = Some(self.next_ticket);
        context.begun = begun;
        context.awaited = None;
        let phase = if begun {
            Phase::Running
        } else {
            Phase::Before(BTreeSet::new())
        };
        context.state = State::Leaving(phase);
    }

    /// A spot in which nothing is polled comes to its end.
    pub(crate) fn end(&mut self, spot: SpotId, success: bool) {
        self.spots[spot].is_alive = false;
        match self.spots[spot].role {
            Role::Task => {}
            Role::TaskOf(scope) => self.task_is_gone(scope, spot),
            Role::Teardown(id) => self.function_ended(id),
            Role::Setup(id) => {
                self.remove_child(|child| *child == Child::Setup(id, spot));
                self.contexts[id].state = State::Gone;
                if success {
                    let site = self.contexts[id].site;
                    self.sites[site].at = Some(self.next(self.sites[site].place));
                    self.contexts[id].state = State::Entered;
                }
            }
            Role::Body(id) => {
                let inside = self.pending_inside(id);
                let children = self.spots.iter_mut().flat_map(|spot| &mut spot.children);
                for (order, child) in children {
                    if *child == Child::Body(id, spot) {
                        *child = Child::Leaving(id);
                        self.contexts[id].awaited = Some(*order);
                    }
                }
                self.contexts[id].state = State::Leaving(Phase::Before(inside));
            }
        }
        self.go_on();
    }

    fn remove_child(&mut self, which: impl Fn(&Child) -> bool) {
        for spot in &mut self.spots {
            spot.children.retain(|(_, child)| !which(child));
        }
    }

    /// A future of a spot is dropped.
    pub(crate) fn cut_child(&mut self, order: OrderId) {
        for spot in 0..self.spots.len() {
            let children = &mut self.spots[spot].children;
            if let Some(at) = children.iter().position(|(other, _)| *other == order) {
                let (_, child) = children.remove(at);
                self.drop_child(child);
            }
        }
        self.go_on();
    }

    /// A task is dropped.
    pub(crate) fn cut_task(&mut self, spot: SpotId) {
        self.drop_spot(spot);
        if let Role::TaskOf(scope) = self.spots[spot].role {
            self.task_is_gone(scope, spot);
        }
        self.go_on();
    }

    fn drop_spot(&mut self, spot: SpotId) {
        self.spots[spot].is_alive = false;
        for (_, child) in std::mem::take(&mut self.spots[spot].children) {
            self.drop_child(child);
        }
    }

    fn drop_child(&mut self, child: Child) {
        match child {
            Child::Settle(_) => {}
            Child::Setup(id, setup) => {
                self.drop_spot(setup);
                self.contexts[id].state = State::Gone;
            }
            Child::Body(id, body) => {
                self.drop_spot(body);
                self.detach(id, false);
            }
            Child::Leaving(id) => match self.contexts[id].state {
                State::Leaving(Phase::After(_)) => self.contexts[id].state = State::Gone,
                State::Leaving(Phase::Running) => {
                    self.cancel(id);
                    self.detach(id, true);
                }
                _ => {
                    self.cancel(id);
                    self.detach(id, false);
                }
            },
        }
    }

    fn task_is_gone(&mut self, scope: Id, task: SpotId) {
        let place = self.spots[task].place;
        let is_left = !self.pending_in(place).is_empty();
        if let Kind::Scope(scope) = &mut self.contexts[scope].kind {
            scope.tasks.remove(&task);
            scope.left.extend(is_left.then_some(place));
        }
    }

    fn function_ended(&mut self, id: Id) {
        let inside = self.pending_inside(id);
        self.contexts[id].state = State::Leaving(Phase::After(inside));
    }
}

/// Tells of each context where it is and how far.
impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, context) in self.contexts.iter().enumerate() {
            let is_placed = self.sites[context.site].at.is_some();
            let path = is_placed.then(|| self.path(id));
            let Ctx {
                kind,
                state,
                ticket,
                ..
            } = context;
            writeln!(
                f,
                "{id}: {kind:?} at {path:?}: {state:?}, ticket {ticket:?}"
            )?;
        }
        for (id, spot) in self
            .spots
            .iter()
            .enumerate()
            .filter(|(_, spot)| spot.is_alive)
        {
            let Spot {
                place,
                role,
                children,
                ..
            } = spot;
            writeln!(f, "spot {id}, in place {place}: {role:?} {children:?}")?;
        }
        Ok(())
    }
}
