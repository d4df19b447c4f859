//! What a scope of a thousand tasks that end at once costs, beside a `JoinSet` of as many and tasks of one's own.
//!
//! Only the ratios within one run mean anything.

mod ways;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

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
        bench.throughput(Throughput::Elements(ways::TASKS));
        macro_rules! bench {
            ($($way:ident)*) => {$(
                bench.bench_function(stringify!($way), |b| {
                    // A task of the runtime, as a caller would be.
                    b.iter(|| {
                        let ended = runtime.block_on(async { tokio::spawn(ways::$way()).await });
                        ended.expect("it doesn't fail")
                    });
                });
            )*};
        }
        bench!(join_set scope_of_values join_set_of_nothing scope_of_nothing task_tracker);
        bench.finish();
    }
}

criterion_group!(benches, thousand);
criterion_main!(benches);
