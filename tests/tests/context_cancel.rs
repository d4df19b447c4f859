//! The caller is dropped, or panics, at every poll in turn. Whatever had been set up is torn down exactly
//! once, inner before outer and without waiting for anything else, with the right exit.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Exit, ExitStack, Guard, actxmgr, group};
use aioxide_tests::cut::{self, Cut, Program};
use aioxide_tests::scopes::runtimes;
use proptest::prelude::*;
use tokio::runtime::{Runtime, RuntimeFlavor};
use tokio::time::Instant;

#[derive(Default)]
struct Journal {
    /// In the order of entering.
    entered: Vec<u32>,
    /// In the order in which they ended.
    left: Vec<(u32, Exit)>,
    /// With which exit a context is left, from the point where that is settled, and the highest id entered by
    /// then.
    leaving: BTreeMap<u32, (Exit, u32)>,
    /// When each teardown began and ended, and when the program was cut.
    began: BTreeMap<u32, Instant>,
    ended: BTreeMap<u32, Instant>,
    cut: Option<Instant>,
}

impl Journal {
    fn exit_of(&self, id: u32) -> Option<&Exit> {
        self.leaving.get(&id).map(|(exit, _)| exit)
    }
}

/// What a program runs with: its journal, and the number of steps after which it panics.
#[derive(Clone)]
struct World {
    journal: Arc<Mutex<Journal>>,
    panic_in: Arc<AtomicUsize>,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl World {
    fn new(panic_in: usize) -> World {
        World {
            journal: Arc::default(),
            panic_in: Arc::new(AtomicUsize::new(panic_in)),
            lock: Arc::default(),
        }
    }

    /// Suspends once; the caller's panic happens here.
    async fn step(&self) {
        if self.panic_in.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.cut_now();
            panic!("the step at which it panics");
        }
        tokio::task::yield_now().await;
    }

    /// The program is cut now, if it wasn't before.
    fn cut_now(&self) {
        let mut journal = self.journal.lock().unwrap();
        journal.cut.get_or_insert_with(Instant::now);
    }

    fn leaving(&self, id: u32, exit: Exit) {
        let mut journal = self.journal.lock().unwrap();
        let highest = journal.entered.iter().max().copied().unwrap_or(0);
        journal.leaving.insert(id, (exit, highest));
    }

    /// With which exit it is left is open again.
    fn staying(&self, id: u32) {
        self.journal.lock().unwrap().leaving.remove(&id);
    }
}

/// Suspends in setup and teardown, holds a lock in each for a while, and sleeps in its teardown.
#[actxmgr]
async fn noted(world: World, id: u32) -> io::Result<u32> {
    tokio::task::yield_now().await;
    {
        let _held = world.lock.lock().await;
        tokio::task::yield_now().await;
    }
    world.journal.lock().unwrap().entered.push(id);
    let (id, exit) = yield_(id).await;
    let began = world
        .journal
        .lock()
        .unwrap()
        .began
        .insert(id, Instant::now());
    assert_eq!(began, None, "{id} is torn down twice");
    tokio::task::yield_now().await;
    {
        let _held = world.lock.lock().await;
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
    let mut journal = world.journal.lock().unwrap();
    journal.left.push((id, exit));
    journal.ended.insert(id, Instant::now());
    Ok(())
}

async fn plain(world: World) {
    let guard = noted(world.clone(), 1).await.unwrap();
    world.step().await;
    world.step().await;
    world.leaving(1, Exit::Completed);
    guard.exit().await.unwrap();
}

async fn nested_guards(world: World) {
    let one = noted(world.clone(), 1).await.unwrap();
    world.step().await;
    let two = noted(world.clone(), 2).await.unwrap();
    world.step().await;
    let three = noted(world.clone(), 3).await.unwrap();
    world.step().await;
    for (id, guard) in [(3, three), (2, two), (1, one)] {
        world.leaving(id, Exit::Completed);
        guard.exit().await.unwrap();
    }
}

async fn nested_with(world: World) {
    let w = &world;
    noted(world.clone(), 1)
        .with(async |_| {
            w.step().await;
            noted(w.clone(), 2)
                .with(async |_| {
                    noted(w.clone(), 3)
                        .with(async |_| {
                            w.step().await;
                            w.leaving(3, Exit::Completed);
                            Ok::<_, io::Error>(())
                        })
                        .await?;
                    w.step().await;
                    w.leaving(2, Exit::Failed("enough".into()));
                    Err::<(), _>(io::Error::other("enough"))
                })
                .await
                .unwrap_err();
            w.leaving(1, Exit::Completed);
            Ok::<_, io::Error>(())
        })
        .await
        .unwrap();
}

async fn grouped(world: World) {
    let outer = noted(world.clone(), 1).await.unwrap();
    let members = (2..6).map(|id| noted(world.clone(), id));
    let members = group(members.collect::<Vec<_>>()).await.unwrap();
    world.step().await;
    for id in 2..6 {
        world.leaving(id, Exit::Completed);
    }
    members.exit().await.unwrap();
    world.leaving(1, Exit::Completed);
    outer.exit().await.unwrap();
}

async fn stacked(world: World) {
    let mut stack = ExitStack::new();
    stack.enter(noted(world.clone(), 1)).await.unwrap();
    world.step().await;
    let two = noted(world.clone(), 2).await.unwrap();
    stack.push(two);
    stack.enter(noted(world.clone(), 3)).await.unwrap();
    world.step().await;
    for id in 1..4 {
        world.leaving(id, Exit::Completed);
    }
    stack.exit().await.unwrap();
}

async fn tupled(world: World) {
    let outer = noted(world.clone(), 1).await.unwrap();
    let of = |id| noted(world.clone(), id);
    let members = group((of(2), of(3), of(4))).await.unwrap();
    world.step().await;
    for id in 2..5 {
        world.leaving(id, Exit::Completed);
    }
    members.exit().await.unwrap();
    world.leaving(1, Exit::Completed);
    outer.exit().await.unwrap();
}

/// Holds the contexts `id` and `id + 1`, the latter inside the former.
#[actxmgr]
async fn noted_stack(world: World, id: u32) -> io::Result<ExitStack> {
    let mut stack = ExitStack::new();
    stack.enter(noted(world.clone(), id)).await?;
    stack.enter(noted(world, id + 1)).await?;
    let (stack, exit) = yield_(stack).await;
    stack.exit_with(exit).await.map_err(io::Error::other)
}

async fn stacks_in_a_group(world: World) {
    let outer = noted(world.clone(), 1).await.unwrap();
    let stacks = group([10, 20].map(|id| noted_stack(world.clone(), id)));
    let stacks = stacks.await.unwrap();
    world.step().await;
    for id in [10, 11, 20, 21] {
        world.leaving(id, Exit::Completed);
    }
    stacks.exit().await.unwrap();
    world.leaving(1, Exit::Completed);
    outer.exit().await.unwrap();
}

async fn finishing(world: World) {
    let mut guards = Guards(Vec::new());
    for id in 1..4 {
        // Cut in its setup, it is left by nobody, be there a panic or not.
        world.leaving(id, Exit::Cancelled);
        let guard = noted(world.clone(), id).finish_setup().await.unwrap();
        world.staying(id);
        guards.0.push((id, guard));
        world.step().await;
    }
    while let Some((id, guard)) = guards.0.pop() {
        world.leaving(id, Exit::Completed);
        guard.exit().await.unwrap();
    }
}

/// Cuts `program` before the poll `polls`, and gives whether it ended by itself.
fn run(runtime: &Runtime, world: &World, program: Program<()>, polls: usize, cut: Cut) -> bool {
    runtime.block_on(async {
        let ended = cut::run(program, polls, cut).await.is_some();
        if !ended {
            world.cut_now();
        }
        cut::drain_all().await;
        let journal = world.journal.lock().unwrap();
        assert_eq!(
            journal.entered.len(),
            journal.left.len(),
            "each exactly once"
        );
        ended
    })
}

/// Whether the first of two contexts is inside the second, and so has to end before it.
type Inside = fn(u32, u32) -> bool;

/// All that were entered, one after the other.
const NESTED: Inside = |inner, outer| inner > outer;
/// All in the first one.
const IN_THE_FIRST: Inside = |_, outer| outer == 1;

fn check(world: &World, inside: Inside, cut_short: &Exit) {
    let journal = world.journal.lock().unwrap();
    let left: Vec<u32> = journal.left.iter().map(|(id, _)| *id).collect();
    for (at, &outer) in left.iter().enumerate() {
        let late = left[at + 1..].iter().find(|&&inner| inside(inner, outer));
        assert_eq!(late, None, "inside {outer}: {left:?}");
    }
    let sorted = |ids: &[u32]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    assert_eq!(sorted(&left), sorted(&journal.entered));
    // Also of a setup that is cut, if it is to be finished.
    for id in journal.leaving.keys() {
        assert!(journal.entered.contains(id), "{id} was not set up");
    }
    for (id, exit) in &journal.left {
        let expected = journal.exit_of(*id).unwrap_or(cut_short);
        assert_eq!(exit, expected, "of {id}");
    }
}

/// By a paused clock, which goes on only where all wait: a teardown that is left to the cut begins at the moment when
/// the last of those inside it has ended. It waits for these, and for no others.
fn check_moments(world: &World, inside: Inside) {
    let journal = world.journal.lock().unwrap();
    let Some(cut) = journal.cut else { return };
    for (id, began) in journal.began.iter().filter(|&(_, began)| *began >= cut) {
        let ends = journal.ended.iter();
        let inner = ends.filter(|&(inner, _)| inner != id && inside(*inner, *id));
        let due = inner.map(|(_, end)| *end).fold(cut, Instant::max);
        assert_eq!(*began - cut, due - cut, "{id}: {:?}", journal.left);
    }
}

fn exhaust(name: &str, inside: Inside, program: impl Fn(World) -> Program<()>) {
    for runtime in &runtimes() {
        let cut_at = |polls, cut, panic_in, exit| {
            let world = World::new(panic_in);
            let ended = run(runtime, &world, program(world.clone()), polls, cut);
            check(&world, inside, &exit);
            if runtime.handle().runtime_flavor() == RuntimeFlavor::CurrentThread {
                check_moments(&world, inside);
            }
            ended
        };
        for cut in Cut::ALL {
            let polls = cut::exhaust(|polls| cut_at(polls, cut, usize::MAX, cut.exit()));
            assert!(polls > 5, "{name} was cut at {polls} polls");
        }
        let steps = cut::exhaust(|step| cut_at(usize::MAX, Cut::Drop, step, Exit::Panicked));
        assert!(steps > 0, "{name} panicked at {steps} steps");
    }
}

#[test]
fn plain_context() {
    exhaust("plain", NESTED, |world| Box::pin(plain(world)));
}

#[test]
fn nested_guards_three_deep() {
    exhaust("nested guards", NESTED, |world| {
        Box::pin(nested_guards(world))
    });
}

#[test]
fn nested_with_three_deep() {
    exhaust("nested with", NESTED, |world| Box::pin(nested_with(world)));
}

#[test]
fn group_in_a_context() {
    exhaust("group", IN_THE_FIRST, |world| Box::pin(grouped(world)));
}

#[test]
fn tuple_in_a_context() {
    exhaust("tuple", IN_THE_FIRST, |world| Box::pin(tupled(world)));
}

#[test]
fn exit_stack() {
    exhaust("stack", NESTED, |world| Box::pin(stacked(world)));
}

#[test]
fn stacks_in_contexts_in_a_group() {
    let inside: Inside = |inner, outer| outer == 1 || inner == outer + 1;
    exhaust("stacks", inside, |world| Box::pin(stacks_in_a_group(world)));
}

#[test]
fn setups_that_are_finished() {
    exhaust("finishing", NESTED, |world| Box::pin(finishing(world)));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Enter,
    Exit,
    Fail,
    Drop,
    Step,
    Timeout,
}

/// Guards that are dropped last-entered first, as local variables are.
struct Guards(Vec<(u32, Guard<io::Result<u32>>)>);

impl Drop for Guards {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

async fn random(world: World, ops: Vec<Op>) {
    let mut guards = Guards(Vec::new());
    let mut next = 1;
    for op in ops {
        match op {
            Op::Enter => {
                let guard = noted(world.clone(), next).await.unwrap();
                guards.0.push((next, guard));
                next += 1;
            }
            Op::Exit => {
                if let Some((id, guard)) = guards.0.pop() {
                    world.leaving(id, Exit::Completed);
                    guard.exit().await.unwrap();
                }
            }
            Op::Fail => {
                if let Some((id, guard)) = guards.0.pop() {
                    world.leaving(id, Exit::Failed("failed".into()));
                    let failed = Err::<(), _>(io::Error::other("failed"));
                    guard.exit_as(failed).await.unwrap_err();
                }
            }
            Op::Drop => {
                if let Some((id, guard)) = guards.0.pop() {
                    world.leaving(id, Exit::Cancelled);
                    drop(guard);
                }
            }
            Op::Step => world.step().await,
            Op::Timeout => {
                let body = noted(world.clone(), next).with(async |_| {
                    std::future::pending::<()>().await;
                    Ok::<_, io::Error>(())
                });
                let limit = Duration::from_millis(2);
                let entered = tokio::time::timeout(limit, body).await;
                assert!(entered.is_err());
                world.leaving(next, Exit::Cancelled);
                next += 1;
            }
        }
    }
    for (id, _) in &guards.0 {
        world.leaving(*id, Exit::Cancelled);
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Enter),
        2 => Just(Op::Exit),
        1 => Just(Op::Fail),
        2 => Just(Op::Drop),
        2 => Just(Op::Step),
        1 => Just(Op::Timeout),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Inner before outer: when a context ends, all those that were entered inside it have ended.
    #[test]
    fn random_programs(
        ops in proptest::collection::vec(op(), 1..20),
        polls in 0usize..120,
        cut in proptest::sample::select(&Cut::ALL[..]),
        panic_in in prop_oneof![3 => Just(usize::MAX), 1 => 0usize..6],
        flavour in 0usize..2,
    ) {
        let runtime = &runtimes()[flavour];
        let world = World::new(panic_in);
        run(runtime, &world, Box::pin(random(world.clone(), ops)), polls, cut);
        let journal = world.journal.lock().unwrap();
        for (at, (id, exit)) in journal.left.iter().enumerate() {
            match journal.exit_of(*id) {
                Some(expected) => prop_assert_eq!(exit, expected),
                None => prop_assert!(matches!(exit, Exit::Cancelled | Exit::Panicked)),
            }
            // What is awaited after a success doesn't wait for what was dropped before.
            if *exit == Exit::Completed {
                continue;
            }
            // Ids are given in the order of entering, and the program is a stack: what has a greater one and was
            // entered before `id` began to be left, was entered after it in its place.
            for (later, _) in journal.left[at + 1..].iter().filter(|(later, _)| later > id) {
                let begun = journal.leaving.get(id).map(|(_, highest)| *highest);
                prop_assert!(
                    begun.is_some_and(|highest| highest < *later),
                    "{} ended after {}, inside which it was entered", later, id
                );
            }
        }
        let mut ids: Vec<u32> = journal.left.iter().map(|(id, _)| *id).collect();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), journal.left.len(), "none twice");
    }
}
