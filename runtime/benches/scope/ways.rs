//! The ways to spawn a thousand tasks and wait for them; `aioxide-compare` times them too.

use std::convert::Infallible;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many tasks a scope has.
pub(crate) const TASKS: u64 = 1000;

pub(crate) async fn join_set() -> u64 {
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
pub(crate) async fn scope_of_values() -> u64 {
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
pub(crate) async fn join_set_of_nothing() -> u64 {
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
pub(crate) async fn scope_of_nothing() -> u64 {
    let ended = aioxide::scope::<Infallible>().await;
    let scope = ended.expect("a scope is entered at once");
    for _ in 0..TASKS {
        scope.spawn(async {});
    }
    scope.exit().await.expect("no task fails");
    TASKS
}

/// The tracker waits, and each task looks at the token.
pub(crate) async fn task_tracker() -> u64 {
    let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
    for _ in 0..TASKS {
        tasks.spawn(token.clone().run_until_cancelled_owned(async {}));
    }
    tasks.close();
    tasks.wait().await;
    TASKS
}
