//! The caller of a scope is dropped, panics or is aborted at every poll in turn, and each of its tasks fails at each
//! of its steps. Whatever was entered is torn down exactly once, what the tasks entered before what is around them,
//! and no task is left.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aioxide::{Exit, Ignore, Restart, Scope, actxmgr, drain, group, scope};
use aioxide_tests::PATIENCE;
use aioxide_tests::scopes::{Census, no_tasks, runtimes};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout;

/// What has been entered and left, by names such as `pool.2.1`: inside of `pool.2`, which is inside of `pool`.
#[derive(Default)]
struct Journal {
    entered: Vec<String>,
    left: Vec<String>,
    /// How each was left.
    exits: BTreeMap<String, Exit>,
}

#[derive(Clone, Default)]
struct World {
    journal: Arc<Mutex<Journal>>,
    tasks: Arc<Census>,
    /// The number of steps after which a task fails, and how.
    fails_in: Option<(Arc<AtomicUsize>, bool)>,
}

impl World {
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

/// Suspends in setup and teardown.
#[actxmgr]
async fn noted(world: World, name: String) -> io::Result<String> {
    yield_now().await;
    world.journal.lock().unwrap().entered.push(name.clone());
    let (name, exit) = yield_(name).await;
    yield_now().await;
    tokio::time::sleep(Duration::from_micros(50)).await;
    if !name.contains('.') {
        assert!(world.tasks.is_empty(), "a task outlives its scope");
    }
    let mut journal = world.journal.lock().unwrap();
    journal.left.push(name.clone());
    journal.exits.insert(name, exit);
    Ok(())
}

/// A task that holds one context, and another inside of it.
fn task(world: &World, name: String) -> impl Future<Output = io::Result<()>> + Send + use<> {
    let (world, held) = (world.clone(), world.tasks.enter());
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
        let _held = world.tasks.enter();
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
                        (scope.cancelled(), world.clone(), world.tasks.enter());
                    scope.spawn(async move {
                        let _held = held;
                        let guard = noted(w.clone(), "pool.0".into()).await?;
                        cancelled.await;
                        yield_now().await;
                        guard.exit().await
                    });
                    let (w, held) = (world.clone(), world.tasks.enter());
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

type Program = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Drop,
    Panic,
    Abort,
}

/// Runs a program to its end, or cuts it before a given poll.
struct CutAt {
    program: Option<Program>,
    polls: usize,
    cut: Cut,
    abort: Arc<Notify>,
}

impl Future for CutAt {
    /// What the program ended in, if it came to its end.
    type Output = Option<io::Result<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            match self.cut {
                Cut::Drop => {
                    self.program = None;
                    return Poll::Ready(None);
                }
                Cut::Panic => panic!("the poll at which it is cut"),
                Cut::Abort => {
                    self.abort.notify_one();
                    return Poll::Pending;
                }
            }
        }
        self.polls -= 1;
        let program = self.program.as_mut().expect("polled after its end");
        program.as_mut().poll(cx).map(Some)
    }
}

/// `None`: it was cut, or has panicked.
fn run(
    runtime: &Runtime,
    world: &World,
    program: Program,
    polls: usize,
    cut: Cut,
) -> Option<io::Result<()>> {
    runtime.block_on(async {
        let abort = Arc::new(Notify::new());
        let mut task = tokio::spawn(CutAt {
            program: Some(program),
            polls,
            cut,
            abort: Arc::clone(&abort),
        });
        let ended = async {
            tokio::select! {
                ended = &mut task => ended,
                () = abort.notified() => {
                    task.abort();
                    task.await
                }
            }
        };
        let ended = timeout(PATIENCE, ended).await.expect("it hangs");
        if let Err(error) = &ended {
            assert!(error.is_panic() || cut == Cut::Abort);
        }
        let ended = ended.ok().flatten();
        if ended.is_some() {
            // A program that has come to its end has waited for everything.
            check(world);
        }
        assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
        check(world);
        no_tasks().await;
        ended
    })
}

fn check(world: &World) {
    assert!(
        world.tasks.is_empty(),
        "{} tasks are left",
        world.tasks.len()
    );
    let journal = world.journal.lock().unwrap();
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    assert_eq!(sorted(&journal.left), sorted(&journal.entered));
    // A supervised one may have been entered more than once: each time it is inside of what is around it.
    for (at, outer) in journal.left.iter().enumerate() {
        let inside = |name: &&String| {
            name.strip_prefix(&**outer)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        if outer == "pool" {
            let late = journal.left[at..].iter().find(inside);
            assert_eq!(late, None, "inside {outer}: {:?}", journal.left);
        }
    }
}

fn exhaust(name: &str, program: impl Fn(World) -> Program) {
    for runtime in &runtimes() {
        for cut in [Cut::Drop, Cut::Panic, Cut::Abort] {
            let mut polls = 0;
            loop {
                let world = World::default();
                if let Some(ended) = run(runtime, &world, program(world.clone()), polls, cut) {
                    ended.unwrap();
                    break;
                }
                polls += 1;
            }
            assert!(polls > 3, "{name} was cut at {polls} polls");
        }
        for panics in [false, true] {
            let mut step = 0;
            loop {
                let world = World {
                    fails_in: Some((Arc::new(AtomicUsize::new(step)), panics)),
                    ..World::default()
                };
                let ended = run(
                    runtime,
                    &world,
                    program(world.clone()),
                    usize::MAX,
                    Cut::Drop,
                );
                match ended {
                    Some(Ok(())) => break,
                    Some(Err(error)) => {
                        assert_eq!(error.to_string(), "the step at which it fails");
                        assert!(!panics);
                    }
                    None => assert!(panics, "{name} panicked"),
                }
                step += 1;
            }
            assert!(step > 1, "{name} failed at {step} steps");
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

#[test]
fn tasks_that_clean_up() {
    // A failure of the supervised one is none: it ends in the grace, or is started again too late.
    for runtime in &runtimes() {
        for cut in [Cut::Drop, Cut::Panic, Cut::Abort] {
            let mut polls = 0;
            loop {
                let world = World::default();
                if run(
                    runtime,
                    &world,
                    Box::pin(graceful(world.clone())),
                    polls,
                    cut,
                )
                .is_some()
                {
                    break;
                }
                polls += 1;
            }
            assert!(polls > 3, "cut at {polls} polls");
        }
    }
}

/// First the connections, each with what is inside of it, then the pool.
#[test]
fn an_aborted_parent_takes_its_tasks_and_then_its_pool_along() {
    for runtime in runtimes() {
        runtime.block_on(async {
            for fails_alone in [false, true] {
                let world = World::default();
                let (own, ready) = (world.clone(), Arc::new(Notify::new()));
                let told = Arc::clone(&ready);
                let parent = tokio::spawn(async move {
                    let _pool = noted(own.clone(), "pool".into()).await?;
                    let context = scope::<io::Error>();
                    let context = if fails_alone {
                        context.on_failure(Ignore)
                    } else {
                        context
                    };
                    context
                        .with(async |scope| {
                            for number in 1..=2 {
                                let (world, told) = (own.clone(), Arc::clone(&told));
                                scope.spawn(async move {
                                    let _held = world.tasks.enter();
                                    let _c = noted(world.clone(), format!("pool.{number}")).await?;
                                    told.notify_one();
                                    pending::<io::Result<()>>().await
                                });
                            }
                            pending::<io::Result<()>>().await
                        })
                        .await
                });
                while world.journal.lock().unwrap().entered.len() < 3 {
                    ready.notified().await;
                }
                parent.abort();
                assert!(parent.await.unwrap_err().is_cancelled());
                assert_eq!(drain(PATIENCE).await.abandoned, [""; 0]);
                let journal = world.journal.lock().unwrap();
                assert_eq!(journal.left.len(), 3);
                assert_eq!(journal.left[2], "pool", "{:?}", journal.left);
                assert!(journal.exits.values().all(|exit| *exit == Exit::Cancelled));
            }
        });
    }
}
