//! Guards that are dropped while their runtime ends. In a program of its own: it waits for the counts of the
//! whole process.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use aioxide::actxmgr;
use aioxide::teardown::stats;
use tokio::runtime::{Builder, Runtime};

const DEADLINE: Duration = Duration::from_secs(60);
const GUARDS: u32 = 64;

/// Some get through to their end before their runtime does, some don't.
#[actxmgr]
async fn slow(number: u32) {
    yield_().await;
    for _ in 0..number {
        tokio::task::yield_now().await;
    }
    if number == GUARDS {
        std::future::pending::<()>().await;
    }
}

#[test]
fn each_teardown_ends_or_is_abandoned_when_its_runtime_ends_meanwhile() {
    let ways: [fn(Runtime); 3] = [
        Runtime::shutdown_background,
        |runtime| runtime.shutdown_timeout(Duration::ZERO),
        drop,
    ];
    for (round, end) in (1..=100).zip(ways.iter().cycle()) {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let guards = runtime.block_on(async {
            let mut guards = Vec::new();
            for number in 1..=GUARDS {
                guards.push(slow(number).await);
            }
            guards
        });
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                drop(guards);
            });
            start.wait();
            end(runtime);
        });
        let started = Instant::now();
        loop {
            let stats = stats();
            assert_eq!(stats.failed, 0);
            if stats.detached == stats.completed + stats.abandoned {
                assert_eq!(stats.detached, round * u64::from(GUARDS));
                break;
            }
            assert!(started.elapsed() < DEADLINE, "{stats:?}");
            std::thread::yield_now();
        }
    }
    assert!(stats().abandoned >= 100, "the last one of each round");
}
