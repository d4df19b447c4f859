//! Entering and leaving on one and on two threads.

use criterion::{BenchmarkId, Criterion};

use crate::on_threads::{in_a_loop, in_turn, on_each, once_a_task, runtime};
use crate::ways::{
    aioxide_guard, aioxide_with, boxed_hooks, suspended_boxed_hooks, suspended_guard,
};

pub(crate) fn threads(c: &mut Criterion) {
    macro_rules! bench {
        ($group:literal $how:ident $($way:ident)*) => {
            let mut group = c.benchmark_group($group);
            let runtime = runtime();
            for threads in [1, 2] {
                $(group.bench_function(BenchmarkId::new(stringify!($way), threads), |b| {
                    b.iter_custom(|iterations| on_each(&runtime, threads, || $how(iterations, $way)));
                });)*
            }
            group.finish();
        };
    }
    bench!("loop" in_a_loop boxed_hooks aioxide_guard aioxide_with);
    bench!("once_a_task" once_a_task boxed_hooks aioxide_guard aioxide_with);
    bench!("in_turn" in_turn suspended_boxed_hooks suspended_guard);
}
