//! The handle of a timer that runs.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use tokio::time::Instant;

use super::inside;
use super::schedule::NEVER;
use super::shared::{Request, Shared, nanos};

/// A periodic task that runs: what a `#[timer]` function, or [`TimerBuilder::start`](crate::TimerBuilder::start), gives.
///
/// Dropping it stops the timer: no tick starts any more, and running ticks are dropped, without grace,
/// when the timer's task next runs. [`stop`](Timer::stop) waits for that, [`finish`](Timer::finish) lets
/// running ticks end, [`detach`](Timer::detach) lets the timer live as long as its runtime.
///
/// Next to its neighbour `tokio::time::interval`, which is a stream of instants for a loop of one's own,
/// a timer is the loop: it runs, bounds, reports and ends what happens at each instant. Its due times are
/// `start + first + k * interval` whatever the ticks do; [`Overlap`](crate::Overlap) says what a due tick does while
/// an earlier one runs, [`Missed`](crate::Missed) what becomes of due times that the timer itself was late for. Modelled
/// on aiotools' `create_timer`; the overlap policies are those of job schedulers such as Temporal's.
///
/// All methods may be called from any task or thread. What they ask for happens in the order of asking,
/// before any tick that is due at the same instant and after those that have ended.
///
/// ```
/// use std::time::Duration;
/// use aioxide::{Overlap, Timer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let beat = Timer::every(Duration::from_millis(100))
///     .overlap(Overlap::Cancel)
///     .start(|tick| async move { println!("beat {}", tick.index()) });
/// tokio::time::sleep(Duration::from_millis(250)).await;
/// beat.stop().await;
/// assert_eq!(beat.stats().completed, 3); // at 0, 100 and 200 ms
/// # }
/// ```
#[must_use = "dropping a timer stops it; keep it, or `detach()` it"]
pub struct Timer {
    pub(super) shared: Arc<Shared>,
}

/// What a timer has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimerStats {
    /// What logs call the timer.
    pub name: Cow<'static, str>,
    /// Ticks that were started: those that ended one way or another, and those that run.
    pub started: u64,
    /// Ticks that returned `()` or `Ok(())` without having been asked to end.
    pub completed: u64,
    /// Ticks that returned an `Err`, panicked, or ran into their timeout.
    pub failed: u64,
    /// Ticks that were asked to end, by `overlap = cancel` or a stop, before they had.
    pub cancelled: u64,
    /// Due times that passed without a tick because an earlier one was running, or that were waiting
    /// for one to end when the timer was paused or stopped.
    pub skipped: u64,
    /// Due times that the timer was too late for.
    pub missed: u64,
    /// Ticks that run now.
    pub running: u64,
}

/// An interval that a timer can't have: zero, or not longer than its jitter, or any if it goes by a calendar or a grid
/// that it shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidInterval {
    interval: Duration,
    above: Duration,
}

impl fmt::Display for InvalidInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InvalidInterval { interval, above } = self;
        if nanos(*above) == NEVER {
            return write!(
                f,
                "a timer's interval can't be {interval:?} when it goes by a calendar or shares its grid with others"
            );
        }
        write!(
            f,
            "a timer's interval can't be {interval:?}; it has to be longer than {above:?}"
        )
    }
}

impl std::error::Error for InvalidInterval {}

impl Timer {
    /// Stops the timer: nothing that is due now or later starts, running ticks are asked to end, dropped
    /// once the grace is over, and waited for. Doing so again does no harm.
    ///
    /// If this future is dropped after it was first polled, the timer still stops. A tick that waits for its
    /// own timer here is dropped in doing so.
    pub async fn stop(&self) {
        self.shared.request(Request::Stop { grace: true });
        self.shared.ended().await;
    }

    /// Stops the timer, but lets running ticks end for as long as `timeout`, after which they are asked to
    /// end as by [`stop`](Timer::stop). Gives `true` if none was cancelled.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use aioxide::Timer;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let upload = Timer::every(Duration::from_secs(60)).start(|_| async {
    ///     tokio::time::sleep(Duration::from_secs(5)).await;
    /// });
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// assert!(upload.finish(Duration::from_secs(10)).await);
    /// assert_eq!(upload.stats().completed, 1);
    /// # }
    /// ```
    ///
    /// Called in one of its own ticks it waits for the others only, and the timeout ends that tick too.
    ///
    /// If this future is dropped after it was first polled, all the same happens.
    pub async fn finish(&self, timeout: Duration) -> bool {
        let cancelled = || self.shared.counts.cancelled.load(Acquire);
        let before = cancelled();
        let until = self.shared.now().saturating_add(nanos(timeout));
        self.shared.request(Request::Finish(until));
        match inside::tick_of(&self.shared) {
            Some(number) => self.shared.others_ended(number).await,
            None => self.shared.ended().await,
        }
        cancelled() == before
    }

    /// From now on nothing is due, until [`resume`](Timer::resume). Running ticks run on; due ones that
    /// wait are skipped.
    pub fn pause(&self) {
        self.shared.request(Request::Pause);
    }

    /// Ends a [`pause`](Timer::pause). The grid is the same as before; due times that lay in the pause
    /// are not made up for. With `after` a delay that ran out in the pause starts again.
    pub fn resume(&self) {
        self.shared.request(Request::Resume);
    }

    /// Makes a tick due now, beside the grid and even in a pause. It obeys [`Overlap`](crate::Overlap) as any other.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use aioxide::Timer;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let sync = Timer::every(Duration::from_secs(3600)).start(|_| async {});
    /// sync.pause();
    /// sync.trigger();
    /// tokio::time::sleep(Duration::from_millis(1)).await;
    /// assert_eq!(sync.stats().completed, 1);
    /// # }
    /// ```
    pub fn trigger(&self) {
        self.shared.request(Request::Trigger);
    }

    /// Changes the interval, with `after` the delay. The next tick is due one new interval after the last
    /// due time, whether or not that had a tick, or at once if that has passed; the grid goes on from there.
    /// Before the first due time only the distance of those that follow it changes.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use aioxide::Timer;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let poll = Timer::every(Duration::from_secs(10)).start(|_| async {});
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// poll.set_interval(Duration::from_secs(3)).unwrap(); // next at 3 s, 6 s, 9 s, ...
    /// assert!(poll.set_interval(Duration::ZERO).is_err());
    /// tokio::time::sleep(Duration::from_secs(6)).await;
    /// assert_eq!(poll.stats().completed, 3);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If `interval` is zero or not longer than the jitter, and for a timer that goes by a calendar or has `single`.
    pub fn set_interval(&self, interval: Duration) -> Result<(), InvalidInterval> {
        check_interval(interval, self.shared.jitter())?;
        self.shared.request(Request::SetInterval(nanos(interval)));
        Ok(())
    }

    /// Begins a new grid now: the next tick is due one interval from now, and the grid goes on from there. With
    /// `after` the delay begins anew, unless a tick runs. As [`tokio::time::Interval::reset`]. A timer that goes by a
    /// calendar or has `single` has no grid of its own, and nothing happens.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use aioxide::Timer;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let idle = Timer::every(Duration::from_secs(10)).first(Duration::from_secs(10)).start(|_| async {});
    /// tokio::time::sleep(Duration::from_secs(9)).await;
    /// idle.reset(); // next at 19 s, 29 s, ...
    /// tokio::time::sleep(Duration::from_secs(9)).await;
    /// assert_eq!(idle.stats().started, 0);
    /// tokio::time::sleep(Duration::from_secs(2)).await;
    /// assert_eq!(idle.stats().started, 1);
    /// # }
    /// ```
    pub fn reset(&self) {
        self.shared.request(Request::Reset);
    }

    /// When the next tick is due, on the grid. `None` while that isn't known, because the timer is paused or ends, or
    /// with `after` because a tick runs. It tells what the timer has done so far: a request that was made just now may
    /// not show yet.
    pub fn next_due(&self) -> Option<Instant> {
        self.shared.next_due()
    }

    /// Lets the timer live as long as its runtime.
    pub fn detach(self) {
        self.shared.detached.store(true, Release);
    }

    /// What the timer has done so far.
    pub fn stats(&self) -> TimerStats {
        let counts = &self.shared.counts;
        // Those that have ended first: they must not outnumber those that were started.
        let completed = counts.completed.load(Acquire);
        let failed = counts.failed.load(Acquire);
        let cancelled = counts.cancelled.load(Acquire);
        let started = counts.started.load(Acquire);
        TimerStats {
            name: self.shared.name().clone(),
            started,
            completed,
            failed,
            cancelled,
            skipped: counts.skipped.load(Acquire),
            missed: counts.missed.load(Acquire),
            running: started.saturating_sub(completed + failed + cancelled),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if !self.shared.detached.load(Acquire) && !self.shared.is_over() {
            self.shared.request(Request::Stop { grace: false });
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

pub(super) fn check_interval(interval: Duration, jitter: u64) -> Result<(), InvalidInterval> {
    if nanos(interval) <= jitter {
        return Err(InvalidInterval {
            interval,
            above: Duration::from_nanos(jitter),
        });
    }
    Ok(())
}
