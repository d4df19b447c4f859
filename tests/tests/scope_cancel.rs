//! The caller of a scope is dropped, panics or is aborted at every poll in turn, and each of its tasks fails at each
//! of its steps. Whatever was entered is torn down exactly once, after all that is inside it and without waiting for
//! anything else, and no task is left.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::{Exit, Ignore, Restart, Scope, actxmgr, group, scope};
use aioxide_tests::PATIENCE;
use aioxide_tests::cut::{self, Cut, Program};
use aioxide_tests::scopes::{no_tasks, runtimes};
use tokio::runtime::{Runtime, RuntimeFlavor};
use tokio::sync::Barrier;
use tokio::task::yield_now;
use tokio::time::Instant;

/// A context, or a task. Their names tell what is inside what: `pool.2.1` is inside `pool.2`, and that inside `pool`.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Context(String),
    Task(String),
}

impl What {
    fn name(&self) -> &str {
        match self {
            What::Context(name) | What::Task(name) => name,
        }
    }

    fn is_inside(&self, outer: &str) -> bool {
        let rest = self.name().strip_prefix(outer);
        rest.is_some_and(|rest| rest.starts_with('.'))
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// A context was entered, or a task spawned.
    Begun(What),
    /// The teardown of a context began.
    Leaving(String, Exit),
    /// It is torn down, or the task is gone.
    Over(What),
    Cut,
}

#[derive(Clone, Default)]
struct World {
    journal: Arc<Mutex<Vec<(Instant, Event)>>>,
    /// The number of steps after which a task fails, and how.
    fails_in: Option<(Arc<AtomicUsize>, bool)>,
}

impl World {
    fn note(&self, event: Event) {
        let mut journal = self.journal.lock().unwrap();
        journal.push((Instant::now(), event));
    }

    /// A task, for as long as what this gives is there.
    fn task(&self, name: &str) -> Held {
        self.note(Event::Begun(What::Task(name.to_owned())));
        Held(self.clone(), name.to_owned())
    }

    /// Suspends, or fails.
    async fn step(&self) -> io::Result<()> {
        let fails =
            |(left, _): &&(Arc<AtomicUsize>, bool)| left.fetch_sub(1, Ordering::Relaxed) == 0;
        match self.fails_in.as_ref().filter(fails) {
            Some((_, true)) => panic!("the step at which it panics"),
            Some((_, false)) => return Err(io::Error::other("the step at which it fails")),
            None => {}
        }
        yield_now().await;
        Ok(())
    }
}

struct Held(World, String);

impl Drop for Held {
    fn drop(&mut self) {
        let task = What::Task(std::mem::take(&mut self.1));
        self.0.note(Event::Over(task));
    }
}

/// Suspends in setup and teardown.
#[actxmgr]
async fn noted(world: World, name: String) -> io::Result<String> {
    yield_now().await;
    world.note(Event::Begun(What::Context(name.clone())));
    let (name, exit) = yield_(name).await;
    world.note(Event::Leaving(name.clone(), exit));
    yield_now().await;
    tokio::time::sleep(Duration::from_micros(50)).await;
    world.note(Event::Over(What::Context(name)));
    Ok(())
}

/// A task that holds one context, and another inside of it.
fn task(world: &World, name: String) -> impl Future<Output = io::Result<()>> + Send + use<> {
    let (world, held) = (world.clone(), world.task(&name));
    async move {
        let _held = held;
        let outer = noted(world.clone(), name.clone()).await?;
        world.step().await?;
        let inner = noted(world.clone(), format!("{name}.1")).await?;
        world.step().await?;
        inner.exit().await?;
        world.step().await?;
        outer.exit().await
    }
}

/// Tasks in a context; the body waits for one of them.
async fn plain(world: World) -> io::Result<()> {
    noted(world.clone(), "pool".into())
        .with(async |_| {
            scope()
                .with(async |scope| {
                    for number in 0..2 {
                        scope.spawn(task(&world, format!("pool.{number}")));
                    }
                    world.step().await?;
                    let last = scope.spawn(task(&world, "pool.2".into()));
                    world.step().await?;
                    last.await?;
                    world.step().await
                })
                .await
        })
        .await
}

/// A guard, and a context beside the tasks.
async fn guarded(world: World) -> io::Result<()> {
    let pool = noted(world.clone(), "pool".into()).await?;
    let tasks = scope().await?;
    tasks.spawn(task(&world, "pool.0".into()));
    let beside = noted(world.clone(), "pool.b".into()).await?;
    tasks.spawn(task(&world, "pool.1".into()));
    yield_now().await;
    beside.exit().await?;
    let ended = tasks.exit().await;
    pool.exit_as(ended).await
}

/// Scopes inside of tasks, and tasks that spawn into their own scope.
async fn nested(world: World) -> io::Result<()> {
    async fn inner(world: World, outer: Scope<io::Error>) -> io::Result<()> {
        let _held = world.task("pool.0");
        let w = &world;
        noted(world.clone(), "pool.0".into())
            .with(async |_| {
                scope()
                    .with(async |scope| {
                        scope.spawn(task(w, "pool.0.0".into()));
                        outer.spawn(task(w, "pool.1".into()));
                        scope.spawn(task(w, "pool.0.1".into()));
                        w.step().await
                    })
                    .await
            })
            .await
    }
    noted(world.clone(), "pool".into())
        .with(async |_| {
            scope()
                .with(async |scope| {
                    scope.spawn(inner(world.clone(), scope.clone()));
                    world.step().await
                })
                .await
        })
        .await
}

/// A group of scopes in a context.
async fn grouped(world: World) -> io::Result<()> {
    noted(world.clone(), "pool".into())
        .with(async |_| {
            let scopes = group([scope::<io::Error>(), scope()]).await?;
            for (number, tasks) in scopes.iter().enumerate() {
                tasks.spawn(task(&world, format!("pool.{number}")));
            }
            yield_now().await;
            scopes.exit().await
        })
        .await
}

/// Tasks that clean up, one that is deaf, and one that is supervised.
async fn graceful(world: World) -> io::Result<()> {
    noted(world.clone(), "pool".into())
        .with(async |_| {
            scope()
                .grace(Duration::from_millis(2))
                .deadline(PATIENCE)
                .with(async |scope| {
                    let (cancelled, w, held) =
                        (scope.cancelled(), world.clone(), world.task("pool.0"));
                    scope.spawn(async move {
                        let _held = held;
                        let guard = noted(w.clone(), "pool.0".into()).await?;
                        cancelled.await;
                        yield_now().await;
                        guard.exit().await
                    });
                    let (w, held) = (world.clone(), world.task("pool.1"));
                    let deaf = scope.spawn(async move {
                        let _held = held;
                        let _guard = noted(w.clone(), "pool.1".into()).await?;
                        pending::<io::Result<()>>().await
                    });
                    let w = world.clone();
                    scope.supervise("supervised", Restart::default(), move || {
                        task(&w, "pool.2".into())
                    });
                    world.step().await?;
                    deaf.abort();
                    world.step().await?;
                    scope.cancel();
                    Ok(())
                })
                .await
        })
        .await
}

/// Cuts `program` before the poll `polls`. `None`: it was cut, or has panicked.
fn run(
    runtime: &Runtime,
    world: &World,
    program: Program<io::Result<()>>,
    polls: usize,
    cut: Cut,
) -> Option<io::Result<()>> {
    runtime.block_on(async {
        let ended = cut::run(program, polls, cut).await;
        world.note(Event::Cut);
        if ended.is_some() {
            // A program that has come to its end has waited for everything.
            check(world);
        }
        cut::drain_all().await;
        check(world);
        no_tasks().await;
        ended
    })
}

/// Nothing is left; and what is inside a context began and was over while that was there. This holds for tasks, also
/// for those of a run that is started again, as it does for contexts.
fn check(world: &World) {
    let journal = world.journal.lock().unwrap();
    let mut open: Vec<&What> = Vec::new();
    for (_, event) in &*journal {
        match event {
            Event::Begun(what) => {
                let outer = what.name().rsplit_once('.');
                if let (Some((outer, _)), What::Context(_)) = (outer, what) {
                    let outer = What::Context(outer.to_owned());
                    assert!(open.contains(&&outer), "{what:?}: {journal:#?}");
                }
                assert!(!open.contains(&what), "{what:?} twice: {journal:#?}");
                open.push(what);
            }
            Event::Leaving(outer, _) => {
                let inside = open.iter().find(|what| what.is_inside(outer));
                assert_eq!(inside, None, "inside {outer}: {journal:#?}");
            }
            Event::Over(what) => {
                let at = open.iter().position(|open| *open == what);
                open.swap_remove(at.expect("it has begun"));
            }
            Event::Cut => {}
        }
    }
    assert!(open.is_empty(), "{open:?} are left: {journal:#?}");
}

/// By a paused clock, which goes on only where all wait: a teardown that is left to the cut begins at the moment when
/// the last of those inside it is over. It waits for these, and for no others.
fn check_moments(world: &World) {
    let journal = world.journal.lock().unwrap();
    let cut = journal
        .iter()
        .position(|(_, event)| matches!(event, Event::Cut));
    let cut = cut.expect("it has been cut");
    for (at, (began, event)) in journal.iter().enumerate().skip(cut) {
        let Event::Leaving(name, _) = event else {
            continue;
        };
        let inner = journal[cut..at]
            .iter()
            .filter(|(_, event)| matches!(event, Event::Over(what) if what.is_inside(name)));
        let cut = journal[cut].0;
        let due = inner.map(|(end, _)| *end).fold(cut, Instant::max);
        assert_eq!(*began - cut, due - cut, "{name}: {journal:#?}");
    }
}

/// Cuts `program` before each of its polls in turn. `moments`: what is cut is left at once.
fn cut_everywhere(name: &str, moments: bool, program: &impl Fn(World) -> Program<io::Result<()>>) {
    for runtime in &runtimes() {
        let paused = runtime.handle().runtime_flavor() == RuntimeFlavor::CurrentThread;
        for cut in Cut::ALL {
            let polls = cut::exhaust(|polls| {
                let world = World::default();
                let ended = run(runtime, &world, program(world.clone()), polls, cut);
                if paused && moments && ended.is_none() {
                    check_moments(&world);
                }
                ended.map(Result::unwrap).is_some()
            });
            assert!(polls > 3, "{name} was cut at {polls} polls");
        }
    }
}

fn exhaust(name: &str, program: impl Fn(World) -> Program<io::Result<()>>) {
    cut_everywhere(name, true, &program);
    for runtime in &runtimes() {
        for panics in [false, true] {
            let steps = cut::exhaust(|step| {
                let world = World {
                    fails_in: Some((Arc::new(AtomicUsize::new(step)), panics)),
                    ..World::default()
                };
                let program = program(world.clone());
                match run(runtime, &world, program, usize::MAX, Cut::Drop) {
                    Some(Ok(())) => return true,
                    Some(Err(error)) => {
                        assert_eq!(error.to_string(), "the step at which it fails");
                        assert!(!panics);
                    }
                    None => assert!(panics, "{name} panicked"),
                }
                false
            });
            assert!(steps > 1, "{name} failed at {steps} steps");
        }
    }
}

#[test]
fn tasks_in_a_context() {
    exhaust("plain", |world| Box::pin(plain(world)));
}

#[test]
fn a_guard_with_a_context_beside_it() {
    exhaust("guarded", |world| Box::pin(guarded(world)));
}

#[test]
fn scopes_in_tasks() {
    exhaust("nested", |world| Box::pin(nested(world)));
}

#[test]
fn a_group_of_scopes_in_a_context() {
    exhaust("grouped", |world| Box::pin(grouped(world)));
}

/// A supervised task that fails once, and is started again.
async fn restarted(world: World) -> io::Result<()> {
    let rule = Restart {
        backoff: Duration::ZERO,
        ..Restart::default()
    };
    noted(world.clone(), "pool".into())
        .with(async |_| {
            scope()
                .with(async |scope| {
                    let own = world.clone();
                    scope
                        .supervise_forever("supervised", rule, move || task(&own, "pool.0".into()));
                    for _ in 0..30 {
                        yield_now().await;
                    }
                    Ok(())
                })
                .await
        })
        .await
}

#[test]
fn a_task_that_is_started_again() {
    for step in 0..3 {
        cut_everywhere("restarted", true, &|world| {
            let fails_in = Some((Arc::new(AtomicUsize::new(step)), false));
            Box::pin(restarted(World { fails_in, ..world }))
        });
    }
}

#[test]
fn tasks_that_clean_up() {
    // A failure of the supervised one is none: it ends in the grace, or is started again too late.
    cut_everywhere("graceful", false, &|world| Box::pin(graceful(world)));
}

/// First the connections, each with what is inside of it, then the pool.
#[test]
fn an_aborted_parent_takes_its_tasks_and_then_its_pool_along() {
    async fn parent(world: World, ready: Arc<Barrier>, fails_alone: bool) -> io::Result<()> {
        let _pool = noted(world.clone(), "pool".into()).await?;
        let context = scope::<io::Error>();
        let context = if fails_alone {
            context.on_failure(Ignore)
        } else {
            context
        };
        context
            .with(async |scope| {
                for number in 1..=2 {
                    let (world, ready) = (world.clone(), Arc::clone(&ready));
                    scope.spawn(async move {
                        let name = format!("pool.{number}");
                        let _held = world.task(&name);
                        let _c = noted(world.clone(), name).await?;
                        ready.wait().await;
                        pending::<io::Result<()>>().await
                    });
                }
                pending::<io::Result<()>>().await
            })
            .await
    }
    for runtime in runtimes() {
        runtime.block_on(async {
            for fails_alone in [false, true] {
                let (world, ready) = (World::default(), Arc::new(Barrier::new(3)));
                let parent = tokio::spawn(parent(world.clone(), Arc::clone(&ready), fails_alone));
                ready.wait().await;
                parent.abort();
                assert!(parent.await.unwrap_err().is_cancelled());
                cut::drain_all().await;
                check(&world);
                let journal = world.journal.lock().unwrap();
                let left: Vec<(&str, &Exit)> = journal
                    .iter()
                    .filter_map(|(_, event)| match event {
                        Event::Leaving(name, exit) => Some((&**name, exit)),
                        _ => None,
                    })
                    .collect();
                assert_eq!(left.len(), 3, "{left:?}");
                assert_eq!(left[2].0, "pool", "{left:?}");
                assert!(left.iter().all(|(_, exit)| **exit == Exit::Cancelled));
            }
        });
    }
}
