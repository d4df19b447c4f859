//! The timers of a worker's thread, for those who look into a running server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use tokio::time::Instant;

use super::details::Details;
pub(crate) use super::details::Shown;
use super::shared::{Request, Shared};

/// Of how many names the counts are kept when their timers have ended.
const NAMES: usize = 1000;

#[derive(Default)]
struct Watched {
    timers: Vec<Arc<Shared>>,
    /// What timers have counted that have ended.
    ended: BTreeMap<String, Counted>,
    /// How many there may be before it is looked which have ended.
    full: usize,
}

/// How many ticks a timer had, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) started: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) skipped: u64,
    pub(crate) missed: u64,
}

/// A timer that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    /// `None` while that isn't known.
    pub(crate) next_due_in: Option<Duration>,
    pub(crate) counted: Counted,
    pub(crate) details: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Trigger,
    Pause,
    Resume,
}

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// From now on the timers are known that are started on this thread.
pub(crate) fn watch() {
    WATCHED.set(Some(Watched::default()));
}

pub(super) fn started(shared: &Arc<Shared>) {
    // While the thread ends nobody watches.
    let _ = WATCHED.try_with(|watched| {
        if let Some(watched) = &mut *watched.borrow_mut() {
            if watched.timers.len() >= watched.full {
                watched.sort_out();
                watched.full = (2 * watched.timers.len()).max(64);
            }
            watched.timers.push(Arc::clone(shared));
        }
    });
}

/// This thread's timers that have not ended, in the order of their starts.
pub(crate) fn timers() -> Vec<Seen> {
    let now = Instant::now();
    with(|watched| {
        watched.sort_out();
        let seen = watched.timers.iter().map(|shared| Seen {
            name: shared.name().to_string(),
            next_due_in: shared
                .next_due()
                .map(|due| due.saturating_duration_since(now)),
            counted: counted(shared),
            details: shared.details().map(Details::show).unwrap_or_default(),
        });
        seen.collect()
    })
}

/// What all timers of a name that were ever started on this thread have counted.
pub(crate) fn counts() -> BTreeMap<String, Counted> {
    with(|watched| {
        watched.sort_out();
        let mut counts = watched.ended.clone();
        for shared in &watched.timers {
            add(&mut counts, shared);
        }
        counts
    })
}

/// Has all timers of this name do something. How many there are.
pub(crate) fn act(name: &str, act: Act) -> usize {
    with(|watched| {
        watched.sort_out();
        let named = watched.timers.iter().filter(|shared| shared.name() == name);
        named
            .map(|shared| {
                shared.request(match act {
                    Act::Trigger => Request::Trigger,
                    Act::Pause => Request::Pause,
                    Act::Resume => Request::Resume,
                })
            })
            .count()
    })
}

fn with<T: Default>(look: impl FnOnce(&mut Watched) -> T) -> T {
    WATCHED.with_borrow_mut(|watched| watched.as_mut().map(look).unwrap_or_default())
}

fn counted(shared: &Shared) -> Counted {
    let counts = &shared.counts;
    // Those that have ended first: they must not outnumber those that were started.
    let [completed, failed, cancelled] =
        [&counts.completed, &counts.failed, &counts.cancelled].map(|count| count.load(Acquire));
    Counted {
        started: counts.started.load(Acquire),
        completed,
        failed,
        cancelled,
        skipped: counts.skipped.load(Acquire),
        missed: counts.missed.load(Acquire),
    }
}

fn add(counts: &mut BTreeMap<String, Counted>, shared: &Shared) {
    let more = counted(shared);
    if counts.len() >= NAMES && !counts.contains_key(&**shared.name()) {
        return;
    }
    let sum = counts.entry(shared.name().to_string()).or_default();
    sum.started += more.started;
    sum.completed += more.completed;
    sum.failed += more.failed;
    sum.cancelled += more.cancelled;
    sum.skipped += more.skipped;
    sum.missed += more.missed;
}

impl Watched {
    /// Lets go of those that have ended, but for their counts.
    fn sort_out(&mut self) {
        let ended = &mut self.ended;
        self.timers.retain(|shared| {
            let goes_on = !shared.is_over();
            if !goes_on {
                add(ended, shared);
            }
            goes_on
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timer;

    #[tokio::test(start_paused = true)]
    async fn counts_outlive_their_timers() {
        watch();
        let second = Duration::from_secs(1);
        let make = || Timer::every(second).name("beat").start(async |_| {});
        let first = make();
        tokio::time::sleep(second / 2).await;
        first.stop().await;
        let other = make();
        tokio::time::sleep(second / 2).await;
        assert_eq!(timers().len(), 1);
        assert_eq!(timers()[0].next_due_in, Some(second / 2));
        assert_eq!(counts()["beat"].completed, 2);
        assert_eq!(act("beat", Act::Trigger), 1);
        assert_eq!(act("feat", Act::Trigger), 0);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(counts()["beat"].completed, 3);
        act("beat", Act::Pause);
        tokio::time::sleep(second * 3).await;
        assert_eq!(
            (timers()[0].next_due_in, counts()["beat"].started),
            (None, 3)
        );
        drop(other);
        tokio::time::sleep(second).await;
        assert_eq!((timers().len(), counts()["beat"].started), (0, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_watches_nothing_is_kept() {
        let _timer = Timer::every(Duration::from_secs(1)).start(async |_| {});
        assert_eq!(timers().len(), 0);
    }
}
