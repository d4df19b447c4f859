//! The same on several threads of a multi-thread runtime at once: in a loop, once in each of many tasks, and by many tasks in
//! turn. What counts is the CPU time of an operation, which a busy machine changes less. `aioxide-compare` does so too.

use std::io;
use std::sync::Barrier;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_local};

const TASKS: u64 = 64;

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().expect("it isn't negative")
}

/// Does `work` on each of several threads at once, inside `runtime`, and gives the mean of what it took.
pub(crate) fn on_each<F: Future<Output = ()>>(
    runtime: &Runtime,
    threads: usize,
    work: impl Fn() -> F + Sync,
) -> Duration {
    let together = Barrier::new(threads);
    let measured = || {
        runtime.block_on(LocalSet::new().run_until(async {
            together.wait();
            let before = cpu_time();
            work().await;
            let taken = cpu_time() - before;
            together.wait();
            taken
        }))
    };
    let total: Duration = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(measured)).collect();
        let taken = threads.into_iter().map(|thread| thread.join());
        taken.map(|taken| taken.expect("it ends")).sum()
    });
    total / u32::try_from(threads).expect("not so many")
}

async fn repeat<F: Future<Output = io::Result<()>>>(iterations: u64, once: fn(u64) -> F) {
    for seed in 0..iterations {
        once(seed).await.expect("no hook fails");
    }
}

pub(crate) async fn in_a_loop<F>(iterations: u64, once: fn(u64) -> F)
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let task = spawn_local(repeat(iterations, once));
    task.await.expect("it ends");
}

pub(crate) async fn once_a_task<F>(iterations: u64, once: fn(u64) -> F)
where
    F: Future<Output = io::Result<()>> + 'static,
{
    for seed in 0..iterations {
        let task = spawn_local(once(seed));
        task.await.expect("it ends").expect("no hook fails");
    }
}

pub(crate) async fn in_turn<F>(iterations: u64, once: fn(u64) -> F)
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let share = |task| iterations / TASKS + u64::from(task < iterations % TASKS);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| spawn_local(repeat(share(task), once)))
        .collect();
    for task in tasks {
        task.await.expect("it ends");
    }
}
