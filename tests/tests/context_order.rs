//! Random programs enter contexts in nested places, drop their guards in a random order, and let their teardowns end in
//! a random order. At each point exactly those teardowns run that needn't wait.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aioxide::{Always, Guard, actxmgr, group};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::sync::Notify;
use tokio::task::{LocalSet, yield_now};

/// A step of a program.
#[derive(Clone, Debug)]
enum Step {
    /// Enters a context and gives its guard away.
    Hold,
    /// Goes on in the body of a `with`.
    With(Vec<Step>),
    /// Goes on in the setup of a context, whose guard is given away too.
    Setup(Vec<Step>),
    /// The same, but the setup fails.
    Fail(Vec<Step>),
    /// Enters a group of so many, and gives their guards away one by one.
    Group(usize),
    /// Goes on in branches of a `join_all`, or of a `FuturesUnordered`.
    Join(Vec<Vec<Step>>, bool),
    /// Goes on in another task, or in one of a `LocalSet`.
    Task(Vec<Step>, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let leaf = prop_oneof![
        4 => Just(Step::Hold),
        1 => (2usize..4).prop_map(Step::Group),
    ];
    let step = leaf.prop_recursive(4, 24, 4, |inner| {
        let steps = proptest::collection::vec(inner, 1..4);
        prop_oneof![
            2 => steps.clone().prop_map(Step::With),
            2 => steps.clone().prop_map(Step::Setup),
            1 => steps.clone().prop_map(Step::Fail),
            1 => (proptest::collection::vec(steps.clone(), 2..4), any::<bool>())
                .prop_map(|(branches, ordered)| Step::Join(branches, ordered)),
            1 => (steps, any::<bool>()).prop_map(|(steps, local)| Step::Task(steps, local)),
        ]
    });
    proptest::collection::vec(step, 1..6)
}

/// A place of the model: how many have been entered in it, and where it is.
#[derive(Clone)]
struct Spot(Arc<SpotInner>);

struct SpotInner {
    id: u64,
    entered: AtomicU64,
    outer: Option<(Spot, Arc<AtomicU64>)>,
}

type Path = Vec<(u64, u64)>;

impl Spot {
    fn new(world: &World, outer: Option<(Spot, Arc<AtomicU64>)>) -> Spot {
        Spot(Arc::new(SpotInner {
            id: world.places.fetch_add(1, Ordering::Relaxed),
            entered: AtomicU64::new(0),
            outer,
        }))
    }

    fn next(&self) -> u64 {
        self.0.entered.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn path(&self, at: u64) -> Path {
        let mut path = vec![(self.0.id, at)];
        let mut spot = self;
        while let Some((outer, at)) = &spot.0.outer {
            path.push((outer.0.id, at.load(Ordering::Relaxed)));
            spot = outer;
        }
        path
    }
}

#[derive(Default)]
struct World {
    places: AtomicU64,
    contexts: AtomicU64,
    held: Mutex<Vec<Held>>,
    running: Mutex<BTreeSet<u64>>,
}

struct Held {
    id: u64,
    spot: Spot,
    at: Arc<AtomicU64>,
    gate: Arc<Notify>,
    /// Never read, but dropped.
    _guard: Guard<Always<()>>,
}

impl World {
    fn hold(
        &self,
        id: u64,
        spot: &Spot,
        at: Arc<AtomicU64>,
        gate: Arc<Notify>,
        guard: Guard<Always<()>>,
    ) {
        self.held.lock().unwrap().push(Held {
            id,
            spot: spot.clone(),
            at,
            gate,
            _guard: guard,
        });
    }
}

#[actxmgr]
async fn gated(world: Arc<World>, id: u64, gate: Arc<Notify>) {
    yield_().await;
    world.running.lock().unwrap().insert(id);
    gate.notified().await;
    world.running.lock().unwrap().remove(&id);
}

#[actxmgr]
async fn with_setup(world: Arc<World>, id: u64, gate: Arc<Notify>, own: Spot, steps: Vec<Step>) {
    run(world.clone(), own, steps).await;
    yield_().await;
    world.running.lock().unwrap().insert(id);
    gate.notified().await;
    world.running.lock().unwrap().remove(&id);
}

#[actxmgr]
async fn failing(world: Arc<World>, own: Spot, steps: Vec<Step>) -> std::io::Result<()> {
    run(world, own, steps).await;
    if true {
        return helper();
    }
    yield_().await;
    Ok(())
}

fn helper() -> std::io::Result<()> {
    Err(std::io::Error::other("refused"))
}

#[actxmgr]
async fn around() {
    yield_().await;
}

fn run(
    world: Arc<World>,
    spot: Spot,
    steps: Vec<Step>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        for step in steps {
            one(&world, &spot, step).await;
        }
    })
}

async fn one(world: &Arc<World>, spot: &Spot, step: Step) {
    let id = world.contexts.fetch_add(1, Ordering::Relaxed);
    let gate = Arc::new(Notify::new());
    let at = Arc::new(AtomicU64::new(0));
    match step {
        Step::Hold => {
            let guard = gated(world.clone(), id, gate.clone()).await;
            at.store(spot.next(), Ordering::Relaxed);
            world.hold(id, spot, at, gate, guard);
        }
        Step::With(steps) => {
            let body = async |_: &mut ()| {
                at.store(spot.next(), Ordering::Relaxed);
                let own = Spot::new(world, Some((spot.clone(), at.clone())));
                run(world.clone(), own, steps).await;
            };
            around().with(body).await;
        }
        Step::Setup(steps) => {
            // In the meantime it counts as entered now, as does what is inside it.
            at.store(spot.next(), Ordering::Relaxed);
            let own = Spot::new(world, Some((spot.clone(), at.clone())));
            let guard = with_setup(world.clone(), id, gate.clone(), own, steps).await;
            at.store(spot.next(), Ordering::Relaxed);
            world.hold(id, spot, at, gate, guard);
        }
        Step::Fail(steps) => {
            at.store(spot.next(), Ordering::Relaxed);
            let own = Spot::new(world, Some((spot.clone(), at)));
            failing(world.clone(), own, steps)
                .await
                .map(drop)
                .unwrap_err();
        }
        Step::Group(members) => {
            let ids: Vec<u64> = (0..members as u64)
                .map(|_| world.contexts.fetch_add(1, Ordering::Relaxed))
                .collect();
            let gates: Vec<_> = ids.iter().map(|_| Arc::new(Notify::new())).collect();
            let contexts = ids.iter().zip(&gates);
            let contexts = contexts.map(|(id, gate)| gated(world.clone(), *id, gate.clone()));
            let mut guards = group(contexts.collect::<Vec<_>>()).await;
            at.store(spot.next(), Ordering::Relaxed);
            let own = Spot::new(world, Some((spot.clone(), at)));
            for ((id, gate), guard) in ids.into_iter().zip(gates).zip(guards.drain(..)) {
                let first = Arc::new(AtomicU64::new(1));
                let member = Spot::new(world, Some((own.clone(), Arc::new(AtomicU64::new(0)))));
                world.hold(id, &member, first, gate, guard);
            }
            guards.exit().await;
        }
        Step::Join(branches, ordered) => {
            let branches = branches
                .into_iter()
                .map(|steps| run(world.clone(), spot.clone(), steps));
            if ordered {
                join_all(branches).await;
            } else {
                branches
                    .collect::<FuturesUnordered<_>>()
                    .collect::<Vec<()>>()
                    .await;
            }
        }
        Step::Task(steps, local) => {
            let spot = Spot::new(world, None);
            if local {
                on_a_local_set(run(world.clone(), spot, localized(steps)));
            } else {
                tokio::spawn(run(world.clone(), spot, steps)).await.unwrap();
            }
        }
    }
}

/// With no task in it that another one would have to run.
fn localized(steps: Vec<Step>) -> Vec<Step> {
    let localized_step = |step| match step {
        Step::Hold | Step::Group(_) => step,
        Step::With(steps) => Step::With(localized(steps)),
        Step::Setup(steps) => Step::Setup(localized(steps)),
        Step::Fail(steps) => Step::Fail(localized(steps)),
        Step::Join(branches, ordered) => {
            Step::Join(branches.into_iter().map(localized).collect(), ordered)
        }
        Step::Task(steps, _) => Step::Task(localized(steps), true),
    };
    steps.into_iter().map(localized_step).collect()
}

/// Nothing in these programs suspends for others: one poll of the set is enough for all its tasks.
fn on_a_local_set(program: Pin<Box<dyn Future<Output = ()> + Send>>) {
    let set = LocalSet::new();
    let task = set.spawn_local(program);
    let mut driven = std::pin::pin!(set);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..100 {
        if driven.as_mut().poll(&mut cx).is_ready() {
            break;
        }
    }
    assert!(task.is_finished());
}

struct Dropped {
    path: Path,
    gate: Arc<Notify>,
    when: usize,
    /// Its function has ended.
    ended: bool,
}

impl Dropped {
    fn is_inside(&self, other: &Dropped) -> bool {
        self.path[1..].contains(&other.path[0])
    }

    /// Whether `other` has to wait for it.
    fn goes_before(&self, other: &Dropped) -> bool {
        let (place, at) = other.path[0];
        let later = |&(own, number): &(u64, u64)| own == place && number > at;
        self.when < other.when && (self.is_inside(other) || self.path.iter().any(later))
    }
}

/// A context whose function has ended is over when nothing inside it is left.
fn let_go(pending: &mut BTreeMap<u64, Dropped>) {
    loop {
        let over = pending
            .iter()
            .find(|(_, own)| own.ended && !pending.values().any(|other| other.is_inside(own)));
        let Some((&over, _)) = over else { return };
        pending.remove(&over);
    }
}

async fn idle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_those_wait_that_have_to(
        steps in steps(),
        choices in proptest::collection::vec((any::<Index>(), any::<bool>()), 100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = Arc::new(World::default());
        let outcome: Result<(), TestCaseError> = runtime.block_on(async {
            let main = Spot::new(&world, None);
            tokio::spawn(run(world.clone(), main, steps.clone())).await.unwrap();
            let mut held = std::mem::take(&mut *world.held.lock().unwrap());
            let mut pending: BTreeMap<u64, Dropped> = BTreeMap::new();
            let mut choices = choices.iter().cycle();
            let mut when = 0;
            while !held.is_empty() || !pending.is_empty() {
                let (index, drops) = choices.next().unwrap();
                if !held.is_empty() && (*drops || pending.is_empty()) {
                    let dropped = held.swap_remove(index.index(held.len()));
                    let path = dropped.spot.path(dropped.at.load(Ordering::Relaxed));
                    when += 1;
                    pending.insert(dropped.id, Dropped { path, gate: dropped.gate.clone(), when, ended: false });
                    drop(dropped);
                } else {
                    let free: Vec<u64> = world.running.lock().unwrap().iter().copied().collect();
                    prop_assert!(!free.is_empty(), "a circle");
                    let ended = pending.get_mut(&free[index.index(free.len())]).unwrap();
                    ended.ended = true;
                    ended.gate.notify_one();
                    let_go(&mut pending);
                }
                idle().await;
                let expected: BTreeSet<u64> = pending
                    .iter()
                    .filter(|(_, own)| !own.ended && !pending.values().any(|other| other.goes_before(own)))
                    .map(|(id, _)| *id)
                    .collect();
                let running = world.running.lock().unwrap().clone();
                prop_assert_eq!(running, expected);
            }
            Ok(())
        });
        outcome?;
    }
}
