//! Runs one worker to its end: the same for thread and process workers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::{DisplayValue, display};

use super::index::{mark_thread, set_thread_index};
#[cfg(not(feature = "scope"))]
use super::no_scope::OwnScope;
#[cfg(feature = "scope")]
use super::own_scope::OwnScope;
use super::shared::Shared;
#[cfg(feature = "timer")]
use super::single;
use super::stopping::Stopping;
#[cfg(feature = "monitor")]
use super::watched::Watched;
use crate::panic;
use crate::server::job::{Body, Run};
use crate::server::line::{Ended, Failure};
use crate::server::stop::{after, without_reserve};
use crate::server::{Worker, report};

/// What detached teardowns get at least, and all that they get once the worker is killed: a little less than
/// the second after which a thread that is still there counts as stuck.
const LAST_TEARDOWNS: Duration = Duration::from_millis(900);

/// Runs a worker on this thread until it has ended or `kill` is cancelled.
pub(crate) fn run(run: Run, kill: &CancellationToken) -> Ended {
    let Run {
        identity,
        line,
        told,
        start,
        patience,
        watcher,
        balanced,
    } = run;
    let watcher = watcher.filter(|_| identity.index.is_some());
    let mut shared = Shared::new(identity, line, told);
    shared.balanced = balanced;
    let worker = Arc::new(shared);
    let index = worker.identity.index;
    let _mark = mark_thread(index);
    #[cfg(feature = "timer")]
    let _installed = single::Installed::new(single::lease(&worker));
    let handle = Worker {
        shared: Arc::clone(&worker),
    };
    let failure = match std::panic::catch_unwind(AssertUnwindSafe(start)) {
        Err(payload) => Some(Failure::Panic(panic::into_text(payload))),
        Ok(Body::Sync(run)) => {
            failure_of(std::panic::catch_unwind(AssertUnwindSafe(|| run(handle))))
        }
        Ok(Body::Async(make)) => {
            let (told, going_on) = (Arc::clone(&worker.told), Arc::clone(&worker.told));
            #[cfg(feature = "monitor")]
            let watched = worker.watched.clone();
            // The worker has what keeps its runtime, which has the hook.
            #[cfg(feature = "timer")]
            let weak = Arc::downgrade(&worker);
            let parks = move || told.turning.parks();
            let goes_on = move || going_on.turning.goes_on();
            let runtime = Builder::new_current_thread()
                .enable_all()
                .thread_name(&worker.identity.comm)
                .on_thread_start(move || {
                    set_thread_index(index);
                    #[cfg(feature = "monitor")]
                    watched.iter().for_each(Watched::join);
                    #[cfg(feature = "timer")]
                    crate::timer::single::install(weak.upgrade().as_ref().map(single::lease));
                })
                .on_thread_park(parks)
                .on_thread_unpark(goes_on)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let watching = watcher.and_then(|by| by.watch(&worker.told, &worker.line));
                    let failure =
                        runtime.block_on(to_its_end(&worker, || make(handle), patience, kill));
                    drop(watching);
                    // Dropping it would wait for blocking tasks without a limit.
                    runtime.shutdown_background();
                    failure
                }
                Err(error) => Some(Failure::Spawn(format!("no event loop: {error}"))),
            }
        }
    };
    Ended {
        failure,
        overran: worker.overran.load(Ordering::Relaxed),
    }
}

async fn to_its_end(
    worker: &Arc<Shared>,
    make: impl FnOnce() -> LocalBoxFuture<'static, Result<(), String>>,
    patience: Duration,
    kill: &CancellationToken,
) -> Option<Failure> {
    // Before the first ping can come, which would be taken for an old one.
    let pinged = worker.told.pinged.subscribe();
    worker.line.pong(0);
    let pings = tokio::task::spawn_local(Arc::clone(worker).answer_pings(pinged));
    let scope = OwnScope::enter(worker).await;
    // The scope itself is none of the program's contexts.
    #[cfg(feature = "monitor")]
    worker.watched.iter().for_each(Watched::join);
    let loop_answers = tokio::task::spawn_local({
        let told = Arc::clone(&worker.told);
        async move { told.turning.answer().await }
    });
    #[cfg(feature = "monitor")]
    let answers = worker.begin_to_answer();
    let body = AssertUnwindSafe(async { make().await }).catch_unwind();
    let failure = tokio::select! {
        biased;
        failure = scope.failed() => Some(failure),
        // One that ends because a task has failed doesn't hide that.
        ended = body => scope.take_failure().or_else(|| failure_of(ended)),
        () = kill.cancelled() => None,
    };

    let completed = worker.identity.to_completion.is_some() && failure.is_none();
    if worker.told.stop.get().is_none() && !kill.is_cancelled() && !completed {
        // Somebody else is to take its place, whatever is left to be done here.
        worker.line.ending(failure.clone());
    }
    let unasked = after(Instant::now(), without_reserve(patience));
    worker.tasks.close();
    let failed = failure.is_some();
    let mut failure_in_scope = None;
    let settled = async {
        let mut tasks = Box::pin(async {
            let ((), failure) = tokio::join!(worker.tasks.wait(), scope.end(failed));
            failure
        });
        let asked = async {
            let stop = Stopping::new(Arc::clone(worker), false).await;
            tokio::time::sleep_until(stop.deadline()).await;
        };
        let in_time = tokio::select! {
            biased;
            failure = &mut tasks => {
                failure_in_scope = failure;
                true
            }
            () = asked => false,
            () = tokio::time::sleep_until(unasked), if worker.told.stop.get().is_none() => false,
        };
        if !in_time {
            worker.overran.store(true, Ordering::Relaxed);
            report::log!(
                warn,
                worker = worker.identity.index,
                role = worker.identity.role(),
                tasks = worker.number_of_tasks(),
                spawned_at = joined(worker.tasks.places()),
                scope = joined(worker.labels_in_scope()),
                "tasks cut at the deadline"
            );
        }
        drop(tasks);
        worker.cut_connections().await;
        let asked = worker.told.stop.get().map(|stop| stop.deadline());
        crate::drain(
            asked
                .unwrap_or(unasked)
                .saturating_duration_since(Instant::now())
                .max(LAST_TEARDOWNS),
        )
        .await
    };
    let drained = tokio::select! {
        biased;
        drained = settled => drained,
        () = kill.cancelled() => {
            worker.cut_connections().await;
            crate::drain(LAST_TEARDOWNS).await
        }
    };
    if !drained.abandoned.is_empty() {
        worker.overran.store(true, Ordering::Relaxed);
        report::log!(error, worker = worker.identity.index, role = worker.identity.role(), contexts = ?drained.abandoned, "teardowns cut at the deadline");
    }
    #[cfg(feature = "monitor")]
    {
        answers.inspect(|answers| answers.abort());
        worker.tell_last_figures();
    }
    pings.abort();
    loop_answers.abort();
    if let (Some(_), Some(failure)) = (&failure, &failure_in_scope) {
        report::log!(
            error,
            worker = worker.identity.index,
            role = worker.identity.role(),
            "a task of the worker's scope has failed too: {failure}"
        );
    }
    failure.or(failure_in_scope)
}

/// For a log line's field, which is left out if there is nothing to say.
fn joined(names: Vec<String>) -> Option<DisplayValue<String>> {
    (!names.is_empty()).then(|| display(names.join(", ")))
}

fn failure_of(ended: std::thread::Result<Result<(), String>>) -> Option<Failure> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(text)) => Some(Failure::Error(text)),
        Err(payload) => Some(Failure::Panic(panic::into_text(payload))),
    }
}
