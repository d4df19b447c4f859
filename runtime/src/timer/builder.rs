//! A timer before it starts.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;

#[cfg(feature = "calendar")]
use super::calendar::{Calendar, Expression, InvalidCalendar};
#[cfg(feature = "monitor")]
use super::details::Details;
use super::driver::{self, Driver, Limits};
use super::failure::{Hook, TickError};
use super::handle::{Timer, check_interval};
use super::host;
use super::lease::{BoxLease, Lease};
use super::schedule::{Cadence, Missed, NEVER, Overlap, Rules, Schedule};
use super::shared::{Shared, nanos};
use super::single::{self, Delivery, Tenant, Terms};
use super::tick::{Tick, TickReturn};
use super::ticks::Seat;
use super::wall::{MakeDues, SharedGrid, WallClock};

impl Timer {
    /// A timer whose ticks are due every `interval`.
    ///
    /// # Panics
    ///
    /// If `interval` is zero.
    #[track_caller]
    pub fn every(interval: Duration) -> TimerBuilder {
        TimerBuilder::new(Cadence::Grid, interval)
    }

    /// A timer whose ticks are due `delay` after the end of the one before. They never overlap, unless
    /// [triggered](Timer::trigger), and are never missed.
    ///
    /// # Panics
    ///
    /// If `delay` is zero.
    #[track_caller]
    pub fn after(delay: Duration) -> TimerBuilder {
        TimerBuilder::new(Cadence::Delay, delay)
    }
}

#[cfg(feature = "calendar")]
impl Timer {
    /// A timer whose ticks are due by the calendar, as a cron expression says, in a time zone: an IANA name, `UTC`, or
    /// `local`. What it becomes of an expression is told at [`#[timer]`](macro@crate::timer#by-the-calendar).
    ///
    /// [`first`](TimerBuilder::first) and [`phase`](TimerBuilder::phase) mean nothing to a calendar, and `start` panics.
    ///
    /// # Errors
    ///
    /// If the expression or the zone isn't one, with what is allowed, or if the expression never comes.
    ///
    /// ```
    /// use aioxide::Timer;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aioxide::InvalidCalendar> {
    /// let report = Timer::calendar("0 3 * * mon-fri", "Asia/Seoul")?.start(|tick| async move {
    ///     println!("the report of {}", tick.scheduled_local());
    /// });
    /// assert!(report.next_due().is_some());
    /// report.stop().await;
    /// assert!(Timer::calendar("0 25 * * *", "UTC").is_err());
    /// # Ok(()) }
    /// ```
    pub fn calendar(expression: &str, zone: &str) -> Result<TimerBuilder, InvalidCalendar> {
        let read = Arc::new(Calendar::read(expression)?);
        TimerBuilder::by_calendar(expression, read, zone)
    }
}

/// A timer before it starts; its methods are named as the options of `#[timer]`.
///
/// See [`Timer`] for an example.
#[must_use = "a timer does nothing until `start` is called"]
#[derive(Clone, Debug)]
pub struct TimerBuilder {
    cadence: Cadence,
    interval: Duration,
    first: Duration,
    overlap: Overlap,
    missed: Missed,
    jitter: Duration,
    phase: bool,
    timeout: Option<Duration>,
    grace: Duration,
    name: Cow<'static, str>,
    hook: Option<Hook>,
    spread: bool,
    calendar: Option<MakeDues>,
    clock: WallClock,
    single: Option<Single>,
    ttl: Duration,
    delivery: Option<Delivery>,
    #[cfg(feature = "calendar")]
    zone: Option<jiff::tz::TimeZone>,
    /// What a calendar is made of, in words.
    #[cfg(feature = "monitor")]
    said: Option<String>,
}

/// Among whom a timer is the only one that runs.
#[derive(Clone, Debug)]
enum Single {
    Workers,
    Cluster(BoxLease),
}

const TTL: Duration = Duration::from_secs(15);

impl TimerBuilder {
    /// By a calendar's `expression`, which has been `read`.
    #[cfg(feature = "calendar")]
    pub(super) fn by_calendar(
        expression: &str,
        read: Arc<Expression>,
        zone: &str,
    ) -> Result<TimerBuilder, InvalidCalendar> {
        let calendar = Calendar::new(read, zone)?;
        let builder = TimerBuilder {
            zone: Some(calendar.zone().clone()),
            calendar: Some(MakeDues::new(move || calendar.clone())),
            ..TimerBuilder::new(Cadence::Clock, Duration::MAX)
        };
        #[cfg(feature = "monitor")]
        let builder = TimerBuilder {
            said: Some(format!("{expression} in {zone}")),
            ..builder
        };
        #[cfg(not(feature = "monitor"))]
        let _ = expression;
        Ok(builder)
    }

    #[track_caller]
    fn new(cadence: Cadence, interval: Duration) -> TimerBuilder {
        assert!(
            !interval.is_zero(),
            "the interval of a timer must not be zero"
        );
        TimerBuilder {
            cadence,
            interval,
            first: Duration::ZERO,
            overlap: Overlap::default(),
            missed: Missed::default(),
            jitter: Duration::ZERO,
            phase: false,
            timeout: None,
            grace: Duration::ZERO,
            name: Cow::Borrowed("timer"),
            hook: None,
            spread: false,
            calendar: None,
            clock: WallClock::SYSTEM,
            single: None,
            ttl: TTL,
            delivery: None,
            #[cfg(feature = "calendar")]
            zone: None,
            #[cfg(feature = "monitor")]
            said: None,
        }
    }

    /// When the first tick is due, counted from the start. Default: at once.
    pub fn first(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    /// What a due tick does while an earlier one still runs. Default: [`Overlap::Skip`].
    ///
    /// # Panics
    ///
    /// If the policy has a bound of zero.
    #[track_caller]
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        assert!(
            !matches!(overlap, Overlap::Allow(0) | Overlap::Queue(0)),
            "the bound in `{overlap:?}` must be at least 1",
        );
        self.overlap = overlap;
        self
    }

    /// What becomes of due times that the timer itself was late for. Default: [`Missed::Coalesce`].
    ///
    /// # Panics
    ///
    /// If the policy has a bound of zero.
    #[track_caller]
    pub fn missed(mut self, missed: Missed) -> Self {
        assert!(
            missed != Missed::Burst(0),
            "the bound in `{missed:?}` must be at least 1",
        );
        self.missed = missed;
        self
    }

    /// Each start is shifted by a random time in `[0, jitter)`, which must be less than the interval. The
    /// grid is not shifted. Default: none.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Shifts all starts by the same part of the jitter, which the host's name decides, so that the hosts of a cluster
    /// don't start together and each one is on time to itself: `spread = host`. Default: a random part for each start.
    pub fn spread(mut self) -> Self {
        self.spread = true;
        self
    }

    /// The wall clock by which a calendar goes. Default: the system's, `SystemTime::now`.
    ///
    /// For tests: a clock that goes with tokio's, for example, so that `tokio::time::pause` moves it.
    ///
    /// ```
    /// # #[cfg(feature = "calendar")] {
    /// use std::time::{Duration, SystemTime};
    /// use aioxide::Timer;
    /// use tokio::time::{Instant, sleep};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn example() {
    /// let (start, noon) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(12 * 3600));
    /// let nightly = Timer::calendar("0 3 * * *", "UTC")
    ///     .unwrap()
    ///     .clock(move || noon + start.elapsed())
    ///     .start(|_| async {});
    /// sleep(Duration::from_secs(24 * 3600)).await;
    /// assert_eq!(nightly.stats().completed, 1);
    /// # nightly.stop().await;
    /// # }
    /// # example() }
    /// ```
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = WallClock::new(clock);
        self
    }

    /// In a worker of a server: of the timers of this [`name`](TimerBuilder::name) in all workers one runs, the supervisor
    /// says which. When its worker stops, fails or is replaced, or the timer is stopped, another one goes on after its ticks
    /// have ended. `single` in the attribute.
    ///
    /// The grid is the server's: it begins when the first of the timers does, and a handover neither repeats nor drops a due
    /// time. One whose tick was cut short, because its worker was killed for example, counts as having run, unless
    /// [`delivery`](TimerBuilder::delivery) is [`AtLeastOnce`](Delivery::AtLeastOnce). Times are those of the wall clock, as
    /// with a calendar.
    ///
    /// Outside a server there is no other: the timer runs as it does without this.
    pub fn single(mut self) -> Self {
        self.single = Some(Single::Workers);
        self
    }

    /// Of all timers that go by a lease of this [`name`](TimerBuilder::name), in a cluster, the holder of the lease runs:
    /// `single = lease`. An interval's grid is shared by all: its due times are whole intervals since 1970.
    ///
    /// The holder renews the lease at a third of its [`ttl`](TimerBuilder::ttl), which it counts from before it asks and on
    /// a clock that counts suspension. If it can't, running ticks are [asked to end](Tick::cancelled) and dropped before the
    /// lease is over, provided that the runtime turns. What outlives even that is told apart by [`Tick::token`].
    /// [`Timer::stop`] gives the lease up once the ticks have ended, so await it before the runtime or the worker ends: one
    /// that is only dropped then may not get to it, and the next holder waits for the ttl. What fell due while none held it is
    /// [`missed`](TimerBuilder::missed)'s.
    ///
    /// Due times are those of each host's own clock. A holder whose clock is ahead records due times that are yet to come
    /// for the others: the next holder runs nothing before these have passed, and logs that at WARN when it is more than one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use aioxide::{Timer, lease::MemoryLease};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let lease = MemoryLease::new();
    /// let sweep = || {
    ///     let sweep = Timer::every(Duration::from_secs(1)).name("sweep").single_by(lease.clone());
    ///     sweep.start(|tick| async move { assert!(tick.token().is_some()) })
    /// };
    /// let (first, second) = (sweep(), sweep());
    /// tokio::time::sleep(Duration::from_millis(1500)).await;
    /// assert_eq!(second.stats().started, 0);
    /// first.stop().await;
    /// second.stop().await;
    /// # }
    /// ```
    pub fn single_by(mut self, lease: impl Lease) -> Self {
        self.single = Some(Single::Cluster(BoxLease::new(lease)));
        self
    }

    /// For how long the lease of [`single_by`](TimerBuilder::single_by) is asked for. When its holder crashes, another one
    /// goes on after that. Default: 15 s.
    ///
    /// # Panics
    ///
    /// If it is less than 100 ms.
    #[track_caller]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        assert!(
            ttl >= Duration::from_millis(100),
            "the ttl of a lease must be at least 100ms, not {ttl:?}"
        );
        self.ttl = ttl;
        self
    }

    /// What counts as having run when another goes on after a holder that is gone. Default:
    /// [`Delivery::AtLeastOnce`] with a lease, [`Delivery::AtMostOnce`] with a plain [`single`](TimerBuilder::single).
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// Shifts the whole grid once by a random time in `[0, interval)`, so that timers that are started
    /// together don't tick together: `phase = random`. Default: no shift.
    pub fn phase(mut self) -> Self {
        self.phase = true;
        self
    }

    /// A tick that runs longer is dropped and counted as failed. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long a tick that is asked to end, by [`Overlap::Cancel`] or a stop, may clean up before it is
    /// dropped. Default: zero.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// What logs call the timer, and what those that are [`single`](TimerBuilder::single) have in common. Default: `timer`;
    /// `#[timer]` gives the function's name.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Tells `hook` of every tick that returns an `Err`, panics or runs into its timeout, once it is over. It is logged
    /// as well. Default: none.
    ///
    /// The hook is called in the timer's task, so it must not block. A panic of it is logged.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aioxide::Timer;
    /// # use tokio::sync::mpsc;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let (failures, mut failed) = mpsc::unbounded_channel();
    /// let sync = Timer::every(Duration::from_secs(60))
    ///     .on_error(move |tick, error| drop(failures.send((tick.index(), error.to_string()))))
    ///     .start(|_| async { Err("no route to host") });
    /// assert_eq!(failed.recv().await, Some((0, "no route to host".to_owned())));
    /// # sync.stop().await;
    /// # }
    /// ```
    pub fn on_error(mut self, hook: impl Fn(&Tick, &TickError) + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook::new(hook));
        self
    }

    /// Starts the timer on the current runtime. `tick` is called for each tick; the future that it gives is
    /// polled by the timer's own task, so that ticks run concurrently with each other, not in parallel.
    ///
    /// An `Err` or a panic of a tick is logged and counted, and the timer lives on.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, on one whose time driver isn't enabled, and if the jitter isn't less than
    /// the interval.
    #[track_caller]
    pub fn start<F, Fut>(self, tick: F) -> Timer
    where
        F: FnMut(Tick) -> Fut + Send + 'static,
        Fut: Future<Output: TickReturn> + Send + 'static,
    {
        // Before what the driver and the handle share, beside which it then lies; see `Shared`.
        let ticks = Box::pin(Seat::new(tick));
        Timer {
            shared: driver::spawn(self.driver(), ticks),
        }
    }

    #[track_caller]
    fn driver(self) -> Driver {
        let jitter = nanos(self.jitter);
        assert!(
            jitter == 0
                || self.cadence == Cadence::Clock
                || check_interval(self.interval, jitter).is_ok(),
            "the jitter of a timer must be less than its interval, but {:?} isn't less than {:?}",
            self.jitter,
            self.interval,
        );
        if Handle::try_current().is_err() {
            panic!(
                "timer `{}` was started outside a tokio runtime: there is no reactor running, a timer must \
                 be started from the context of a Tokio 1.x runtime",
                self.name,
            );
        }
        assert!(
            self.cadence != Cadence::Clock || self.first.is_zero() && !self.phase,
            "timer `{}` goes by the calendar, which has no `first` and no `phase`: shift its starts by `jitter`",
            self.name,
        );
        assert!(
            !self.spread || jitter > 0,
            "timer `{}` has `spread` without `jitter`, of which it is a part",
            self.name,
        );
        let interval = nanos(self.interval);
        let (mut seed, mut shift) = (0, 0);
        if self.spread {
            shift = host::part_of(jitter);
        } else if jitter > 0 {
            seed = fastrand::u64(..);
        }
        let mut phase = 0;
        if self.phase {
            phase = fastrand::u64(..interval);
        }
        let rules = Rules {
            cadence: self.cadence,
            overlap: self.overlap,
            missed: self.missed,
            jitter: if self.spread { 0 } else { jitter },
            shift,
        };
        let first = nanos(self.first).saturating_add(phase);
        let limits = Limits {
            timeout: self.timeout,
            grace: nanos(self.grace),
        };
        assert!(
            self.single.is_none() || self.cadence != Cadence::Delay,
            "timer `{}` has `single` and `after`: one that is shared needs an interval or a calendar",
            self.name,
        );
        assert!(
            self.single.is_none() || self.first.is_zero() && !self.phase,
            "timer `{}` has `single`, so its grid is shared: it has no `first` and no `phase`",
            self.name,
        );
        let in_cluster = matches!(self.single, Some(Single::Cluster(_)));
        let single = match self.single {
            None => None,
            // Such a lease is kept until it is given up.
            Some(Single::Workers) => single::installed().map(|lease| (lease, Duration::MAX)),
            Some(Single::Cluster(lease)) => Some((lease, self.ttl)),
        };
        let calendar = match &single {
            Some(_) if self.calendar.is_none() => Some(MakeDues::new(move || match in_cluster {
                true => SharedGrid::since_1970(interval),
                false => SharedGrid::since_the_first(interval),
            })),
            _ => self.calendar,
        };
        let bound = if calendar.is_some() { NEVER } else { jitter };
        let default = match in_cluster {
            true => Delivery::AtLeastOnce,
            false => Delivery::AtMostOnce,
        };
        let tenant = single.map(|(lease, ttl)| {
            let terms = Terms {
                ttl: nanos(ttl),
                grace: limits.grace,
                delivery: self.delivery.unwrap_or(default),
            };
            Tenant::new(lease, &self.name, ttl, terms)
        });
        let shared = Shared::new(self.name, bound);
        #[cfg(feature = "calendar")]
        let shared = match self.zone {
            Some(zone) => shared.in_zone(zone),
            None => shared,
        };
        #[cfg(feature = "monitor")]
        let shared = match crate::census::is_taken() {
            true => shared.with_details(Details::new(interval, self.said)),
            false => shared,
        };
        let shared = Arc::new(shared);
        let Some(calendar) = calendar else {
            let schedule = Schedule::new(rules, interval, first, seed);
            shared.set_next_due(schedule.next_due());
            return Driver::new(shared, schedule, limits, self.hook);
        };
        let rules = Rules {
            cadence: Cadence::Clock,
            ..rules
        };
        // One that is due at this very moment is due.
        let now = self.clock.now().saturating_sub(1);
        let schedule = Schedule::by_clock(rules, calendar.make(now), now, seed);
        Driver::by_clock(shared, schedule, limits, self.hook, self.clock, tenant)
    }
}
