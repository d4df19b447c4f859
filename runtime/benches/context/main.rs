//! What it costs to enter and leave a context whose hooks never suspend, beside the other ways to do so.
//!
//! Only the ratios within one run mean anything.

mod on_threads;
mod threads;
mod ways;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use ways::*;

fn one(c: &mut Criterion) {
    let runtime = runtime();
    let mut bench = c.benchmark_group("enter_exit");
    macro_rules! bench {
        ($($way:ident)*) => {$(
            bench.bench_function(stringify!($way), |b| {
                b.iter_custom(|iterations| timed(&runtime, iterations, $way));
            });
        )*};
    }
    bench!(hand_written one_yield_stream boxed_hooks aioxide_guard aioxide_with guarden_guard task_per_context);
    bench.finish();
}

fn many(c: &mut Criterion) {
    let runtime = runtime();
    let mut bench = c.benchmark_group("enter_exit_1000");
    bench.throughput(Throughput::Elements(MEMBERS));
    bench.bench_function("join_all_of_boxed_hooks", |b| {
        b.iter_custom(|iterations| timed(&runtime, iterations, join_all_of_boxed_hooks));
    });
    bench.bench_function("aioxide_group", |b| {
        b.iter_custom(|iterations| timed(&runtime, iterations, aioxide_group));
    });
    bench.finish();
}

criterion_group!(benches, one, many, threads::threads);
criterion_main!(benches);
