//! One tick, and what it may return.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::lease::Token;
use super::schedule::NEVER;
use super::shared::{Request, Shared};
use super::wall::at_epoch;

/// One tick of a [`Timer`](super::Timer): which it is, and whether it is asked to end.
///
/// A `#[timer]` function gets it as its first argument, when that has this type; the closure given to
/// [`TimerBuilder::start`](super::TimerBuilder::start) always does. Cloning it is cheap.
#[derive(Clone)]
pub struct Tick {
    pub(super) shared: Arc<Shared>,
    pub(super) index: u64,
    pub(super) scheduled: u64,
    pub(super) lateness: u64,
    pub(super) missed: u64,
    pub(super) interval: u64,
    /// When it was due by the wall clock, with a timer that goes by it.
    pub(super) wall: Option<NonZeroU64>,
    /// That of the lease under which it was started.
    pub(super) token: Option<Token>,
    /// How many ticks were started before this one.
    pub(super) number: u64,
}

impl Tick {
    /// Which due time this is, counted from 0. Due times that passed without a tick are counted too, so
    /// that `index` may jump. A [triggered](super::Timer::trigger) tick has that of the last due time.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// When the tick was due: a grid point, whatever delayed the start (jitter, overlap, a late
    /// wake-up). A [triggered](super::Timer::trigger) tick is due when it starts or is queued.
    pub fn scheduled(&self) -> Instant {
        self.shared.instant(self.scheduled)
    }

    /// When the tick was due, by the wall clock: with a calendar, and with `single = lease`, exactly that due time,
    /// whatever has been done to the clock since. With another timer it is what the system's clock would have shown.
    pub fn scheduled_at(&self) -> SystemTime {
        if let Some(wall) = self.wall {
            return at_epoch(wall.get());
        }
        let (now, due) = (Instant::now(), self.scheduled());
        match now.checked_duration_since(due) {
            Some(since) => SystemTime::now() - since,
            None => SystemTime::now() + (due - now),
        }
    }

    /// [`scheduled_at`](Tick::scheduled_at) as text, with the offset and the name of the calendar's time zone, such as
    /// `2026-11-26T03:00:00+09:00[Asia/Seoul]`; of a timer without a calendar in UTC.
    #[cfg(feature = "calendar")]
    pub fn scheduled_local(&self) -> String {
        self.shared.zoned(self.scheduled_at())
    }

    /// How long after [`scheduled`](Tick::scheduled) the tick was started; with a calendar by the wall clock.
    pub fn lateness(&self) -> Duration {
        Duration::from_nanos(self.lateness)
    }

    /// Due times since the last tick that the timer was too late for (see [`Missed`](super::Missed)).
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The token of the lease under which the tick was started, with [`single_by`](super::TimerBuilder::single_by): what
    /// the tick writes to can refuse a holder that has lost its lease without knowing, by its smaller token.
    pub fn token(&self) -> Option<Token> {
        self.token
    }

    /// The timer's interval at the time of the start; with `after` its delay, with a calendar the time from the newest
    /// due time to the next.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// The timer's name.
    pub(super) fn timer(&self) -> &str {
        self.shared.name()
    }

    /// Stops the timer from inside: no tick starts any more, and those that run, this one too, run to their end.
    ///
    /// It asks and doesn't wait. A [`Timer::stop`](super::Timer::stop) may still cancel what runs.
    ///
    /// ```
    /// # use aioxide::{Tick, timer};
    /// #[timer(1s)]
    /// async fn poll_until_ready(tick: Tick) {
    ///     if is_ready().await {
    ///         tick.stop_timer();
    ///     }
    /// }
    /// # async fn is_ready() -> bool { true }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let polling = poll_until_ready();
    /// tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    /// assert_eq!(polling.stats().completed, 1);
    /// # }
    /// ```
    pub fn stop_timer(&self) {
        self.shared.request(Request::Finish(NEVER));
    }

    /// Waits until the tick is asked to end: by `overlap = cancel`, by [`Timer::stop`](super::Timer::stop),
    /// because the timer was dropped, or because its runtime shuts down.
    ///
    /// With `grace` the tick may use that time to clean up. Without, its future is dropped at once, so
    /// that only tasks it has spawned see this. Cancel safe: it may be dropped and asked for again.
    ///
    /// ```
    /// # use aioxide::{Tick, timer};
    /// #[timer(1s, grace = 500ms)]
    /// async fn poll_queue(tick: Tick) {
    ///     tokio::select! {
    ///         _ = tick.cancelled() => { /* hand back what was taken */ }
    ///         _ = work() => {}
    ///     }
    /// }
    /// # async fn work() { std::future::pending::<()>().await }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let queue = poll_queue();
    /// tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    /// queue.stop().await;
    /// assert_eq!(queue.stats().cancelled, 1);
    /// # }
    /// ```
    pub async fn cancelled(&self) {
        self.shared.asked(self.number).await;
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tick")
            .field("timer", &self.shared.name())
            .field("index", &self.index)
            .field("lateness", &self.lateness())
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

/// What a tick may return: `()` or `Result<(), E>` with `E: Display`. Nothing else implements it.
#[diagnostic::on_unimplemented(
    message = "a tick of a timer can't return `{Self}`",
    label = "returns `{Self}`",
    note = "return `()` or `Result<(), E>` with `E: Display`; an `Err` is logged and counted"
)]
pub trait TickReturn: sealed::Sealed {
    #[doc(hidden)]
    fn failure(&self) -> Option<&dyn fmt::Display>;
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for () {}
impl TickReturn for () {
    fn failure(&self) -> Option<&dyn fmt::Display> {
        None
    }
}

impl<E: fmt::Display> sealed::Sealed for Result<(), E> {}
impl<E: fmt::Display> TickReturn for Result<(), E> {
    fn failure(&self) -> Option<&dyn fmt::Display> {
        self.as_ref().err().map(|error| error as &dyn fmt::Display)
    }
}
