//! What a scope of a thousand tasks that end at once costs, beside a `JoinSet` of as many and tasks of one's own.
//!
//! Only the ratios within one run mean anything.

use std::convert::Infallible;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const TASKS: u64 = 1000;

async fn join_set() -> u64 {
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        tasks.spawn(async move { number });
    }
    let mut sum = 0;
    while let Some(number) = tasks.join_next().await {
        sum += number.expect("no task fails");
    }
    sum
}

/// The values are taken from the handles.
async fn scope_of_values() -> u64 {
    let ended = aioxide::scope::<Infallible>().await;
    let scope = ended.expect("a scope is entered at once");
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| scope.spawn_value(async move { number }))
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("no task fails");
    }
    scope.exit().await.expect("no task fails");
    sum
}

/// As of `JoinSet::join_all`, but for the values.
async fn join_set_of_nothing() -> u64 {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(async {});
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task fails");
        count += 1;
    }
    count
}

/// The handles are dropped, the scope waits.
async fn scope_of_nothing() -> u64 {
    let ended = aioxide::scope::<Infallible>().await;
    let scope = ended.expect("a scope is entered at once");
    for _ in 0..TASKS {
        scope.spawn(async {});
    }
    scope.exit().await.expect("no task fails");
    TASKS
}

fn runtimes() -> [(&'static str, Runtime); 2] {
    let mut multi = Builder::new_multi_thread();
    [
        ("one_thread", Builder::new_current_thread().build()),
        ("two_threads", multi.worker_threads(2).build()),
    ]
    .map(|(name, runtime)| (name, runtime.expect("a runtime can be built")))
}

fn thousand(c: &mut Criterion) {
    for (threads, runtime) in runtimes() {
        let mut bench = c.benchmark_group(format!("scope_1000_{threads}"));
        bench.throughput(Throughput::Elements(TASKS));
        macro_rules! bench {
            ($($way:ident)*) => {$(
                bench.bench_function(stringify!($way), |b| {
                    // A task of the runtime, as a caller would be.
                    b.iter(|| {
                        let ended = runtime.block_on(async { tokio::spawn($way()).await });
                        ended.expect("it doesn't fail")
                    });
                });
            )*};
        }
        bench!(join_set scope_of_values join_set_of_nothing scope_of_nothing);
        bench.finish();
    }
}

criterion_group!(benches, thousand);
criterion_main!(benches);
