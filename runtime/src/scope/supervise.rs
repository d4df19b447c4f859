//! Tasks that are started again when they fail.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep_until};

use super::ending::{ChildReturn, Ended, Failure, Name};
use super::rounds::{NotYet, Run};
use super::shared::Shared;
use crate::backoff::{self, Backoff, Rule, Verdict};
use crate::panic::{self, catch};
use crate::teardown::InnerPlace;

/// When a supervised task that has failed is started again, and when it has failed for good.
///
/// The rule is that of a server's workers: the first restart is `backoff` after the failure, and each further one
/// after twice the delay, up to 10 s; a tenth of it is random. A run that lasted as long as `window` makes up for
/// the failures before it. More than `max` failures within `window` are the end: the task has failed.
///
/// ```
/// use std::time::Duration;
/// use aioxide::Restart;
///
/// let rule = Restart { max: 3, ..Restart::default() };
/// assert_eq!(rule.backoff, Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The delay before the first restart. Default: 100 ms.
    pub backoff: Duration,
    /// How many failures are allowed within `window`. Default: 10.
    pub max: u32,
    /// Default: 60 s.
    pub window: Duration,
}

/// A [`Restart`] that takes the others along: when the task fails, all supervised tasks of the scope that still run are
/// dropped, and started again when all of them and their contexts' teardowns have ended. It is for tasks that are of no use
/// without each other. Only the failures of the task itself count for its limit.
///
/// ```
/// use aioxide::{Restart, Together};
///
/// assert_eq!(Restart::together(), Together(Restart::default()));
/// let rule = Together(Restart { max: 3, ..Restart::default() });
/// # assert_eq!(rule.0.max, 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Together(pub Restart);

/// When a supervised task is started again: a [`Restart`], or [`Together`] with the others.
pub trait RestartRule: sealed::Sealed {
    #[doc(hidden)]
    fn into_restarting(self) -> Restarting;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Restarting {
    restart: Restart,
    together: bool,
}

impl RestartRule for Restart {
    fn into_restarting(self) -> Restarting {
        Restarting {
            restart: self,
            together: false,
        }
    }
}

impl RestartRule for Together {
    fn into_restarting(self) -> Restarting {
        Restarting {
            restart: self.0,
            together: true,
        }
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Restart {}
    impl Sealed for super::Together {}
}

impl Restart {
    /// The default, [`Together`] with the other supervised tasks.
    pub fn together() -> Together {
        Together::default()
    }

    fn rule(&self) -> Rule {
        Rule {
            first: self.backoff,
            max: self.max,
            window: self.window,
            jitter: backoff::jitter,
        }
    }
}

impl Default for Restart {
    fn default() -> Self {
        Restart {
            backoff: backoff::FIRST,
            max: 10,
            window: Duration::from_secs(60),
        }
    }
}

/// Runs the futures of `make`, one after the other, until one succeeds, they have failed too often, or the scope
/// asks to end.
pub(super) async fn supervised<E, F, M, T>(
    shared: Arc<Shared<E>>,
    name: Name,
    Restarting { restart, together }: Restarting,
    mut make: M,
) -> Ended<T, E>
where
    E: fmt::Display + Send + 'static,
    M: FnMut() -> F,
    F: Future<Output: ChildReturn<E, Value = T>>,
{
    let rule = restart.rule();
    let mut backoff = Backoff::default();
    let began = Instant::now();
    let mut future = pin!(None::<F>);
    loop {
        let Some(running) = begin(&shared).await else {
            return Ended::Cancelled;
        };
        let ready_at = began.elapsed();
        let ended = run(&running, &mut make, future.as_mut()).await;
        drop(running);
        let failure = match ended {
            // Another one has failed that takes this one along.
            None => continue,
            Some(ended) if shared.is_asked() => return ended,
            Some(Ended::Failed(error)) => Failure::Error(error),
            Some(Ended::Panicked(panic)) => Failure::Panic(panic),
            Some(ended) => return ended,
        };
        let now = began.elapsed();
        backoff.forgive(now, Some(ready_at), &rule);
        match backoff.fail(now, &rule) {
            Verdict::Restart { delay } => {
                let at = Instant::now() + delay;
                shared.failed_run();
                failure.report(&name, format_args!("; it is started again in {delay:?}"));
                if together {
                    shared.state().rounds.next(at);
                    shared.restarts.notify_waiters();
                } else if until(shared.asked(), sleep_until(at)).await {
                    return Ended::Cancelled;
                }
            }
            Verdict::GiveUp { failures } => {
                let Rule { max, window, .. } = rule;
                panic::guarded(|| {
                    tracing::warn!(
                        task = &*name,
                        "`{name}` failed {failures} times within {window:?}, more than {max} times"
                    );
                });
                return failure.into();
            }
        }
    }
}

/// Waits for both to end, whichever is first, and gives whether that was the first one.
async fn until(first: impl Future, second: impl Future) -> bool {
    let (first, second) = (pin!(first), pin!(second));
    matches!(select(first, second).await, Either::Left(_))
}

/// A run of a supervised task.
struct Running<'a, E: fmt::Display + Send + 'static> {
    shared: &'a Shared<E>,
    run: Run,
}

impl<E: fmt::Display + Send + 'static> Running<'_, E> {
    /// Waits until the run is to end, because of another one's failure.
    async fn stale(&self) {
        loop {
            let mut restarts = pin!(self.shared.restarts.notified());
            restarts.as_mut().enable();
            if self.shared.state().rounds.is_stale(self.run) {
                return;
            }
            restarts.await;
        }
    }
}

impl<E: fmt::Display + Send + 'static> Drop for Running<'_, E> {
    fn drop(&mut self) {
        let others_may_begin = self.shared.state().rounds.end(self.run);
        if others_may_begin {
            self.shared.restarts.notify_waiters();
        }
    }
}

/// Waits until a run may begin; `None` if the scope asks to end.
async fn begin<E>(shared: &Shared<E>) -> Option<Running<'_, E>>
where
    E: fmt::Display + Send + 'static,
{
    loop {
        let mut restarts = pin!(shared.restarts.notified());
        restarts.as_mut().enable();
        if shared.is_asked() {
            return None;
        }
        let begun = shared.state().rounds.begin(Instant::now());
        match begun {
            Ok(run) => return Some(Running { shared, run }),
            Err(NotYet::Others) => until(shared.asked(), restarts).await,
            Err(NotYet::Until(at)) => until(shared.asked(), sleep_until(at)).await,
        };
    }
}

/// Makes a future and polls it to its end, until what it has dropped is torn down; `None` if another one's failure
/// ends it.
async fn run<E, F, M, T>(
    running: &Running<'_, E>,
    make: &mut M,
    mut future: Pin<&mut Option<F>>,
) -> Option<Ended<T, E>>
where
    E: fmt::Display + Send + 'static,
    M: FnMut() -> F,
    F: Future<Output: ChildReturn<E, Value = T>>,
{
    let mut place = InnerPlace::in_current();
    if let Err(panic) = place.run(|| catch(|| future.set(Some(make())))) {
        return Some(Ended::Panicked(panic));
    }
    let mut stale = pin!(running.stale());
    let mut ended = poll_fn(|cx| {
        let Some(future) = future.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        match place.run(|| catch(|| future.poll(cx))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output.end())),
            Err(panic) => Poll::Ready(Some(Ended::Panicked(panic))),
            Ok(Poll::Pending) => stale.as_mut().poll(cx).map(|()| None),
        }
    })
    .await;
    if let Err(panic) = place.run(|| catch(|| future.set(None))) {
        ended = match ended {
            Some(Ended::Failed(_) | Ended::Panicked(_)) => ended,
            _ => Some(Ended::Panicked(panic)),
        };
    }
    let mut wait = None;
    poll_fn(|cx| place.poll_settled(&mut wait, cx)).await;
    ended
}
