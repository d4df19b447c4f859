//! Random programs enter contexts in nested places, move their guards about, drop them, await their exits, settle, and
//! are cut, on both kinds of runtime. At each point exactly those teardowns run, and exactly those waits are over, that
//! needn't wait.

mod model;
mod program;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aioxide::drain;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::task::yield_now;

use model::{Id, Model, OrderId, PlaceId, Role, SpotId, State};
use program::{Cut, Order, Seen, World};

/// A random step: what to do, where and with what, and how.
type Step = (Move, Index, Index, u8);

#[derive(Clone, Copy, Debug)]
enum Move {
    Hold,
    With,
    Setup,
    Group,
    Stack,
    Scope,
    Spawn,
    Task,
    Local,
    Nested,
    Settle,
    Drop,
    Exit,
    Cut,
    End,
}

fn moves() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Move::Hold),
        3 => Just(Move::With),
        3 => Just(Move::Setup),
        1 => Just(Move::Group),
        1 => Just(Move::Stack),
        1 => Just(Move::Scope),
        2 => Just(Move::Spawn),
        1 => Just(Move::Task),
        1 => Just(Move::Local),
        1 => Just(Move::Nested),
        2 => Just(Move::Settle),
        6 => Just(Move::Drop),
        4 => Just(Move::Exit),
        2 => Just(Move::Cut),
        6 => Just(Move::End),
    ];
    proptest::collection::vec((step, any::<Index>(), any::<Index>(), any::<u8>()), 1..60)
}

/// Tells a program what to do, and the model.
struct Driver {
    model: Model,
    world: std::sync::Arc<World>,
    next_order: OrderId,
    /// Contexts whose guards lie about.
    held: BTreeSet<Id>,
    scopes: Vec<Id>,
    /// How many cuts the model knows of.
    cuts: usize,
    /// What was told to whom, for a test that fails.
    told: Vec<String>,
}

fn pick<T: Copy>(from: impl IntoIterator<Item = T>, index: Index) -> Option<T> {
    let all: Vec<T> = from.into_iter().collect();
    (!all.is_empty()).then(|| all[index.index(all.len())])
}

impl Driver {
    fn new(nested: Option<Handle>) -> Driver {
        let mut model = Model::default();
        let world = World::new(nested);
        world.start(model.task());
        Driver {
            model,
            world,
            next_order: 0,
            held: BTreeSet::new(),
            scopes: Vec::new(),
            cuts: 0,
            told: Vec::new(),
        }
    }

    fn alive(&self) -> BTreeSet<SpotId> {
        let spots = self.model.spots.iter().enumerate();
        spots
            .filter(|(_, spot)| spot.is_alive)
            .map(|(id, _)| id)
            .collect()
    }

    /// Spots that can end now.
    fn idle(&self) -> Vec<SpotId> {
        let is_idle = |spot: &SpotId| self.model.spots[*spot].children.is_empty();
        self.alive().into_iter().filter(is_idle).collect()
    }

    fn place(&self, spot: SpotId) -> PlaceId {
        self.model.spots[spot].place
    }

    fn tell(&mut self, spot: SpotId, way: u8, order: impl FnOnce(OrderId) -> Order) {
        let id = self.next_order;
        self.next_order += 1;
        let order = order(id);
        self.told.push(format!("{id}: {order:?} in {spot}"));
        self.world.tell(spot, id, way, order);
    }

    /// Takes a step, if that is possible, and waits until all is as the model says.
    async fn step(&mut self, (what, at, with, how): Step) -> Result<(), TestCaseError> {
        match what {
            // Something that is dropped meanwhile may be waited for, or not.
            Move::Drop | Move::Exit | Move::Cut if self.model.is_settling_a_scope() => {
                return Ok(());
            }
            Move::Drop => self.drop_one(at, with, how),
            Move::Exit => self.exit_one(at, with, how),
            Move::Cut => return self.cut_one(at).await,
            Move::End => self.end_one(at, how),
            what => {
                let Some(spot) = pick(self.alive(), at) else {
                    return Ok(());
                };
                self.begin(what, spot, with, how);
            }
        }
        self.check(None).await
    }

    fn begin(&mut self, what: Move, spot: SpotId, with: Index, how: u8) {
        let (order, place) = (self.next_order, self.place(spot));
        let few = usize::from(how % 3) + 1;
        match what {
            Move::Hold => {
                let (id, teardown) = self.model.enter(place);
                self.held.insert(id);
                self.tell(spot, how, |_| Order::Hold(id, teardown));
            }
            Move::With => {
                let (id, teardown, body) = self.model.with(order, spot);
                self.tell(spot, how, |_| Order::With(id, teardown, body));
            }
            Move::Setup => {
                let (id, teardown, setup) = self.model.set_up(order, spot);
                self.tell(spot, how, |_| Order::Setup(id, teardown, setup));
            }
            Move::Group => {
                let (id, members) = self.model.group(place, few);
                let empties = how >= 128;
                if empties {
                    self.model.emptied(id);
                    self.held.extend(members.iter().map(|(id, _)| *id));
                } else {
                    self.held.insert(id);
                }
                self.tell(spot, how, |_| Order::Group(id, members, empties));
            }
            Move::Stack => {
                let is_told =
                    |id: &Id| matches!(self.model.contexts[*id].kind, model::Kind::Told(_));
                let pushed = pick(self.held.iter().copied().filter(is_told), with);
                let pushed = Vec::from_iter(pushed);
                // What is around the stack waits for what is pushed from now on.
                let mut trial = self.model.clone();
                let (id, members) = trial.stack(place, few, &pushed);
                if trial.has_circle() {
                    return;
                }
                self.model = trial;
                self.held.insert(id);
                self.held.retain(|id| !pushed.contains(id));
                self.tell(spot, how, |_| Order::Stack(id, members, pushed));
            }
            Move::Scope => {
                let id = self.model.scope(place);
                self.held.insert(id);
                self.scopes.push(id);
                self.tell(spot, how, |_| Order::Scope(id));
            }
            Move::Spawn => {
                let open = self.scopes.iter().copied();
                let open = open.filter(|id| self.model.takes_tasks(*id));
                let Some(scope) = pick(open, with) else {
                    return;
                };
                let task = self.model.spawn(scope, place);
                self.tell(spot, how, |_| Order::Spawn(scope, task));
            }
            Move::Task => {
                let task = self.model.task();
                self.tell(spot, how, |_| Order::Task(task));
            }
            Move::Local => {
                let task = self.model.task();
                let own = self.place(task);
                self.model.end(task, true);
                let mut enter = |few| (0..few).map(|_| self.model.enter(own)).collect::<Vec<_>>();
                let (held, dropped) = (enter(few), enter(few));
                self.held.extend(held.iter().map(|(id, _)| *id));
                dropped.iter().for_each(|(id, _)| self.model.drop(*id));
                self.tell(spot, how, |_| Order::Local(held, dropped));
            }
            Move::Nested => {
                if self.world.nested().is_none() {
                    return;
                }
                let task = self.model.task();
                let own = self.place(task);
                self.model.end(task, true);
                let held: Vec<_> = (0..few).map(|_| self.model.enter(own)).collect();
                self.held.extend(held.iter().map(|(id, _)| *id));
                self.tell(spot, how, |_| Order::Nested(held));
            }
            Move::Settle => {
                let mut trial = self.model.clone();
                trial.settle(order, spot);
                if !trial.has_circle() {
                    self.model = trial;
                    self.tell(spot, how, |_| Order::Settle);
                }
            }
            Move::Drop | Move::Exit | Move::Cut | Move::End => unreachable!("others do these"),
        }
    }

    fn drop_one(&mut self, at: Index, with: Index, how: u8) {
        let Some(id) = pick(self.held.iter().copied(), with) else {
            return;
        };
        let spot = pick(self.alive(), at).filter(|_| how < 128);
        self.held.remove(&id);
        self.model.drop(id);
        match spot {
            Some(spot) => self.tell(spot, how, |_| Order::Drop(id)),
            None => {
                self.told.push(format!("drop {id}"));
                self.world.drop_held(id);
            }
        }
    }

    fn exit_one(&mut self, at: Index, with: Index, how: u8) {
        let (Some(id), Some(spot)) = (
            pick(self.held.iter().copied(), with),
            pick(self.alive(), at),
        ) else {
            return;
        };
        let success = how < 128;
        let mut trial = self.model.clone();
        trial.exit(self.next_order, id, spot, success);
        if !trial.has_circle() {
            self.model = trial;
            self.held.remove(&id);
            self.tell(spot, how, |_| Order::Exit(id, success));
        }
    }

    /// Cuts something that is awaited, or a task.
    async fn cut_one(&mut self, at: Index) -> Result<(), TestCaseError> {
        let spots = || self.model.spots.iter().enumerate();
        let children = spots().flat_map(|(spot, own)| {
            own.children
                .iter()
                .map(move |(order, _)| (spot, Cut::Order(*order)))
        });
        let is_task = |spot: &model::Spot| matches!(spot.role, Role::Task | Role::TaskOf(_));
        let tasks = spots()
            .filter(|(_, spot)| spot.is_alive && is_task(spot))
            .map(|(id, _)| (id, Cut::Task(id)));
        let Some((spot, cut)) = pick(children.chain(tasks), at) else {
            return Ok(());
        };
        match cut {
            Cut::Order(order) => self.tell(spot, 0, |_| Order::Cut(order)),
            Cut::Task(task) => {
                self.told.push(format!("abort {task}"));
                self.world.abort(task);
            }
        }
        self.check(Some(cut)).await
    }

    fn end_one(&mut self, at: Index, how: u8) {
        let Some(spot) = pick(self.idle(), at) else {
            return;
        };
        let success = how >= 64;
        if let (Role::Setup(id), true) = (&self.model.spots[spot].role, success) {
            self.held.insert(*id);
        }
        self.model.end(spot, success);
        self.tell(spot, how, |_| Order::End(success));
    }

    /// Waits until the program is where the model is, after `cut`, and looks whether it stays there.
    async fn check(&mut self, cut: Option<Cut>) -> Result<(), TestCaseError> {
        let start = Instant::now();
        let is_alone = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        let mut due = cut;
        for turn in 0.. {
            let cuts = self.world.cuts();
            for cut in &cuts[self.cuts..] {
                due = due.filter(|due| due != cut);
                match *cut {
                    Cut::Order(order) => self.model.cut_child(order),
                    Cut::Task(task) => self.model.cut_task(task),
                }
            }
            self.cuts = cuts.len();
            let expected = self.expected();
            let seen = self.world.seen();
            let all =
                due.is_none() && self.model.aborted().is_empty() && self.world.has_begun_all();
            if all && seen == expected && (is_alone || self.pending().await == self.model.count()) {
                break;
            }
            let late = if is_alone {
                turn > 300
            } else {
                start.elapsed() > Duration::from_secs(20)
            };
            if late {
                prop_assert_eq!(due, None);
                prop_assert_eq!(self.model.aborted(), BTreeSet::new());
                prop_assert_eq!(seen, expected, "{}", self.report());
            }
            yield_now().await;
        }
        for _ in 0..20 {
            yield_now().await;
        }
        prop_assert_eq!(self.world.seen(), self.expected(), "{}", self.report());
        Ok(())
    }

    /// How many teardowns are pending on both runtimes.
    async fn pending(&self) -> usize {
        let nested = self.world.nested();
        let nested = nested.map(|nested| nested.spawn(drain(Duration::ZERO)));
        let own = drain(Duration::ZERO).await.abandoned.len();
        match nested {
            Some(nested) => own + nested.await.expect("it ends").abandoned.len(),
            None => own,
        }
    }

    fn expected(&self) -> Seen {
        Seen {
            running: self.model.running(),
            done: self.model.done.clone(),
            held: self.held.clone(),
            alive: self.alive(),
        }
    }

    fn report(&self) -> String {
        let told = self.told.join("\n");
        format!(
            "running, awaited, held, alive, after:\n{told}\n{}",
            self.model
        )
    }

    fn is_over(&self) -> bool {
        let is_leaving = |context: &model::Ctx| matches!(context.state, State::Leaving(_));
        self.alive().is_empty()
            && self.held.is_empty()
            && !self.model.contexts.iter().any(is_leaving)
    }

    /// Ends, drops and awaits what is there, until nothing is.
    async fn wind_down(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        let mut steps = steps.iter().cycle();
        while !self.is_over() {
            let (_, at, with, how) = *steps.next().expect("it is a cycle");
            let can_leave = !self.held.is_empty() && !self.model.is_settling_a_scope();
            let what = match how % 4 {
                0 | 1 if can_leave => Move::Drop,
                2 if can_leave && !self.alive().is_empty() => Move::Exit,
                _ if !self.idle().is_empty() => Move::End,
                _ if can_leave => Move::Drop,
                _ => {
                    prop_assert!(false, "a circle: {}", self.report());
                    unreachable!()
                }
            };
            self.step((what, at, with, how.rotate_left(4))).await?;
        }
        Ok(())
    }
}

fn run(runtime: &Runtime, nested: Option<&Runtime>, steps: &[Step]) -> Result<(), TestCaseError> {
    runtime.block_on(async {
        let mut driver = Driver::new(nested.map(|nested| nested.handle().clone()));
        driver.check(None).await?;
        for step in steps {
            driver.step(*step).await?;
        }
        driver.wind_down(steps).await?;
        let left = drain(Duration::from_secs(20)).await;
        prop_assert_eq!(left.abandoned, [""; 0]);
        Ok(())
    })
}

/// `PROPTEST_CASES` asks for more: a thousand take a quarter of a minute on one thread, and a minute on several.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|asked| asked.parse().ok()).unwrap_or(cases),
        failure_persistence: None,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn exactly_those_wait_that_have_to(steps in moves()) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        run(&runtime, None, &steps)?;
    }

}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn exactly_those_wait_that_have_to_on_several_threads(steps in moves()) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let nested = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        run(&runtime, Some(&nested), &steps)?;
    }
}
