//! The task of a timer: carries out what the [`Schedule`] decides.

use std::future::Future;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};

use super::crowd::{Crowd, Next};
use super::failure::{Hook, TickError};
use super::running::{Entry, Settling, Timeout, poll_tick};
use super::schedule::{Action, Dropped, Due, NEVER, Nanos, STARVED, Schedule};
use super::shared::{Counts, Request, Requests, Shared, add};
use super::single::{Event, Standing, Tenant};
use super::tick::Tick;
use super::ticks::Ticks;
use super::verdict::Verdict;
use super::wall::WallClock;
use super::watching::Watching;
use crate::panic;
use crate::teardown::InnerPlace;

/// Ticks that may start in one poll before others on the runtime have their turn: a tick that never
/// waits would otherwise hold the thread as long as ticks are due.
const STARTS_PER_POLL: usize = 32;

/// How long the ticks of one poll may take before others have their turn, if more are to start.
const TURN: Nanos = 100_000;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Nanos,
}

/// Starts a timer's task.
///
/// Panics as tokio does if the current runtime has no time driver.
#[track_caller]
pub(super) fn spawn(driver: Driver, ticks: Pin<Box<dyn Ticks>>) -> Arc<Shared> {
    let shared = Arc::clone(&driver.shared);
    // That of the task would panic where nobody learns of it.
    drop(driver.alarm());
    #[cfg(feature = "monitor")]
    super::watched::started(&shared);
    tokio::spawn(Task {
        alarm: None,
        ticks,
        driver,
    });
    shared
}

/// Of one type for all timers, because tokio's part of a task is compiled anew for each type. With thousands of
/// timers a tick costs as much as the memory that it misses, so what it touches lies together, and is small: its first
/// 136 bytes are the rest of three lines of a cache, of which tokio's part has 56, and with eight bytes more than 152,
/// tokio's piece of memory for a task would be 384 bytes instead of 256.
#[repr(C)]
struct Task {
    /// Made by the task, not with it, as that of a `tokio::time::interval` in a loop is: tokio's clock goes from
    /// alarm to alarm, and is slow unless those of timers that were started together lie side by side.
    alarm: Option<Pin<Box<Sleep>>>,
    ticks: Pin<Box<dyn Ticks>>,
    /// Last: the timer is over when the closure is gone.
    driver: Driver,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Task {
            alarm,
            ticks,
            driver,
        } = &mut *self;
        let alarm = alarm.get_or_insert_with(|| Box::pin(driver.alarm()));
        driver.poll(cx, alarm.as_mut(), ticks.as_mut())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Ticks that run apart go before the closure, which holds the arguments.
        self.driver.special = None;
    }
}

/// All that doesn't depend on the type of the ticks.
#[repr(C)]
pub(super) struct Driver {
    /// Of the running tick, unless several may run.
    index: u64,
    /// The alarm is spent: it has to be set anew, whenever it is for.
    rung: bool,
    /// Requests know the task's waker.
    registered: bool,
    /// The running ticks have been asked to end.
    asked: bool,
    /// Told that ticks are skipped at a high cap.
    crowded: bool,
    /// No tick starts any more.
    stopping: bool,
    /// Present if a limit is set or several ticks may run, or once it was needed.
    special: Option<Box<Special>>,
    shared: Arc<Shared>,
    /// What most timers do without is at its end.
    schedule: Schedule,
}

struct Special {
    limits: Limits,
    /// When the running ticks are dropped, if they have been asked to end; if they are let to their end
    /// before a stop, when they are asked.
    until: Nanos,
    /// The wall clock that due times go by, if it isn't the system's.
    wall: Option<WallClock>,
    /// The lease under which ticks run.
    tenant: Option<Box<Tenant>>,
    /// The tick that waits for its start to be recorded, and how many were missed before it.
    starting: Option<(Due, u64)>,
    /// When the running tick was due, unless several may run.
    due: Nanos,
    /// Told of ticks that fail.
    hook: Option<Hook>,
    /// The running tick, for the hook, unless several may run.
    tick: Option<Tick>,
    /// What the running tick begins with when it is polled for the first time, unless several may run.
    fresh: Option<Tick>,
    /// Of the running tick, unless several may run.
    watching: Watching,
    /// Why the running ticks are asked to end.
    why: &'static str,
    /// Of the running tick, unless several may run.
    timeout: Option<Timeout>,
    /// That of the running tick, unless several may run or nothing has been entered in it.
    place: Option<InnerPlace>,
    /// What the running tick has left to do when its future is gone, unless several may run.
    settling: Option<Settling>,
    /// The running ticks when several may run at once.
    crowd: Option<Crowd<Entry>>,
}

impl Special {
    fn new(limits: Limits) -> Self {
        Special {
            limits,
            until: NEVER,
            wall: None,
            tenant: None,
            starting: None,
            due: 0,
            hook: None,
            tick: None,
            fresh: None,
            watching: Watching::default(),
            why: "",
            timeout: None,
            place: None,
            settling: None,
            crowd: None,
        }
    }

    /// What the hook is told of if the tick fails.
    fn told(&self, tick: &Tick) -> Option<Tick> {
        self.hook.as_ref().map(|_| tick.clone())
    }

    fn set_timeout(&mut self) {
        let Some(after) = self.limits.timeout else {
            return;
        };
        match &mut self.timeout {
            Some(timeout) => timeout.restart(),
            unset => *unset = Some(Timeout::new(after)),
        }
    }
}

/// Made when it is needed.
fn make(special: &mut Option<Box<Special>>) -> &mut Special {
    special.get_or_insert_with(|| Box::new(Special::new(Limits::default())))
}

/// Declares the timer over when its task ends, however it ends.
impl Drop for Driver {
    fn drop(&mut self) {
        let Counts {
            started,
            completed,
            failed,
            cancelled,
            ..
        } = &self.shared.counts;
        let ended = completed.load(Acquire) + failed.load(Acquire) + cancelled.load(Acquire);
        // A runtime that shuts down drops the task with the ticks in it.
        add(cancelled, started.load(Acquire).saturating_sub(ended));
        self.shared.end();
    }
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        schedule: Schedule,
        limits: Limits,
        hook: Option<Hook>,
    ) -> Driver {
        let plain = limits == Limits::default() && hook.is_none();
        Driver {
            rung: false,
            index: 0,
            registered: false,
            asked: false,
            crowded: false,
            stopping: false,
            special: (!plain).then(|| {
                Box::new(Special {
                    hook,
                    ..Special::new(limits)
                })
            }),
            shared,
            schedule,
        }
    }

    pub(super) fn by_clock(
        shared: Arc<Shared>,
        schedule: Schedule,
        limits: Limits,
        hook: Option<Hook>,
        wall: WallClock,
        tenant: Option<Tenant>,
    ) -> Driver {
        let mut driver = Driver::new(shared, schedule, limits, hook);
        if !wall.is_systems() {
            make(&mut driver.special).wall = Some(wall);
        }
        if let Some(tenant) = tenant {
            make(&mut driver.special).tenant = Some(Box::new(tenant));
            driver.schedule.close();
        }
        let now = driver.shared.now();
        driver.publish(driver.times(now));
        driver
    }

    #[track_caller]
    fn alarm(&self) -> Sleep {
        let now = self.shared.now();
        sleep_until(self.shared.instant(self.times(now).wake_at(&self.schedule)))
    }

    fn times(&self, now: Nanos) -> Times {
        let by_wall = self.schedule.goes_by_clock();
        let clock = if by_wall { self.wall().now() } else { now };
        Times {
            now,
            clock,
            by_wall,
        }
    }

    /// What the clocks show a moment after `earlier`. In a moment nobody puts a wall clock forward or back, unless a
    /// test does.
    fn times_after(&self, earlier: Option<Times>, now: Nanos) -> Times {
        match earlier {
            Some(earlier)
                if earlier.by_wall && now - earlier.now < TURN && self.wall().is_systems() =>
            {
                Times {
                    now,
                    clock: earlier.clock + (now - earlier.now),
                    by_wall: true,
                }
            }
            _ => self.times(now),
        }
    }

    fn wall(&self) -> &WallClock {
        let special = self.special.as_ref();
        let wall = special.and_then(|special| special.wall.as_ref());
        wall.unwrap_or(&WallClock::SYSTEM)
    }

    fn until(&self) -> Nanos {
        let special = self.special.as_ref();
        special.map_or(NEVER, |special| special.until)
    }

    fn set_until(&mut self, until: Nanos) {
        if until != self.until() {
            make(&mut self.special).until = until;
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut alarm: Pin<&mut Sleep>,
        mut ticks: Pin<&mut dyn Ticks>,
    ) -> Poll<()> {
        // Once is enough: this is the whole of a task, whose waker stays the same.
        if !self.registered {
            self.shared.register(cx.waker());
            self.registered = true;
        }

        // Where a poll starts a tick, the clock has been looked at before that.
        let mut turn_began = None;
        let mut starts = 0;
        // Of the tick that was started and polled in the turn of the loop before.
        let mut polled = None;
        let mut earlier = None;
        loop {
            self.obey_lease(cx, ticks.as_mut());
            let busy = self.schedule.running();
            let ended = match polled.take() {
                Some(ended) => ended,
                None if busy > 0 => {
                    let began = *turn_began.get_or_insert_with(|| self.shared.now());
                    self.poll_ticks(cx, ticks.as_mut(), began)
                }
                None => Ended::default(),
            };
            // Requests before the clock, so that none is newer than now.
            let requests = self.shared.take_requests();
            let now = self.shared.now();
            let times = self.times_after(earlier, now);
            earlier = Some(times);
            if times.by_wall {
                self.schedule.look(times.clock);
            }
            if ended.count > 0 {
                self.schedule
                    .ended(times.clock, ended.count, ended.completed);
            }
            if let Some(requests) = requests {
                self.obey_all(requests, times, busy);
            }
            if now >= self.until() && !self.asked {
                self.ask(now, "the timer has ended, and the time to finish is over");
            }
            if now >= self.until() {
                self.drop_ticks(cx, times.clock, ticks.as_mut());
            }
            if self.schedule.running() == 0 {
                self.asked = false;
                self.set_until(NEVER);
                if self.stopping && self.has_left(cx, now) {
                    self.publish(times);
                    return Poll::Ready(());
                }
            }

            self.schedule.advance(times.clock, busy);
            let took = now - *turn_began.get_or_insert(now);
            let turn_is_over = starts >= STARTS_PER_POLL || took >= TURN;
            if ended.unpolled || turn_is_over && !self.is_starting() && self.schedule.has_to_act() {
                break;
            }
            let action = if self.is_starting() {
                None
            } else {
                self.schedule.act(times.clock)
            };
            self.tell_lease();
            self.publish(times);
            match action {
                Some(Action::Start { due, missed }) => {
                    starts += 1;
                    if self.may_start(due, missed) {
                        polled = self.start(cx, times, due, missed, ticks.as_mut());
                    }
                    continue;
                }
                Some(Action::Cancel { starved }) => {
                    if starved {
                        self.warn_of_starvation();
                    }
                    self.ask(now, "the next tick was due (overlap = cancel)");
                    if now >= self.until() {
                        self.drop_ticks(cx, times.clock, ticks.as_mut());
                    }
                    continue;
                }
                None => {}
            }

            let mut wake_at = times.wake_at(&self.schedule);
            if !self.is_recording() {
                wake_at = wake_at.min(self.until());
            }
            if let Some(tenant) = self.tenant() {
                wake_at = wake_at.min(tenant.wake_at(now));
            }
            if wake_at == NEVER {
                // An alarm that is still set wakes the task once more, which does no harm.
                return Poll::Pending;
            }
            let wake_at = self.shared.instant(wake_at);
            if self.rung || wake_at != alarm.deadline() {
                self.rung = false;
                alarm.as_mut().reset(wake_at);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.rung = true;
        }
        self.publish(self.times(self.shared.now()));
        // Not `wake_by_ref`: tokio looks at its clock and sockets only once in 61 polls of tasks that are ready, but
        // before it polls a task again that has yielded.
        pin!(yield_now()).poll(cx)
    }

    #[cold]
    fn warn_of_starvation(&self) {
        panic::guarded(|| {
            tracing::warn!(
                timer = &**self.shared.name(),
                "{STARVED} ticks in a row were cancelled by their successors, none was completed",
            );
        });
    }

    #[cold]
    fn obey_all(&mut self, requests: Requests, times: Times, busy: usize) {
        for (at, request) in requests {
            self.obey(times.clock_at(at), times.now, busy, request);
        }
    }

    fn obey(&mut self, at: Nanos, now: Nanos, busy: usize, request: Request) {
        match request {
            Request::Stop { grace } => {
                self.end(at, busy);
                self.ask(now, "the timer was stopped or dropped");
                if !grace && self.schedule.running() > 0 {
                    self.set_until(now);
                }
            }
            Request::Finish(until) => {
                self.end(at, busy);
                if !self.asked && self.schedule.running() > 0 {
                    self.set_until(until.min(self.until()));
                }
            }
            _ if self.stopping => {}
            Request::Pause => self.schedule.pause(at, busy),
            Request::Resume => self.schedule.resume(at),
            Request::Trigger => self.schedule.trigger(),
            Request::SetInterval(interval) => {
                #[cfg(feature = "monitor")]
                if let Some(details) = self.shared.details() {
                    details.set_interval(interval);
                }
                self.schedule.set_interval(interval, at, busy);
            }
            Request::Reset => self.schedule.reset(at, busy),
        }
    }

    fn end(&mut self, at: Nanos, busy: usize) {
        self.schedule.pause(at, busy);
        self.stopping = true;
    }

    fn limits(&self) -> Limits {
        let special = self.special.as_ref();
        special.map_or_else(Limits::default, |special| special.limits)
    }

    /// Asks the running ticks to end within the grace, for that reason.
    fn ask(&mut self, now: Nanos, why: &'static str) {
        if self.schedule.running() == 0 {
            return;
        }
        if let (false, Some(special)) = (self.asked, &mut self.special) {
            special.why = why;
        }
        let drop_at = now.saturating_add(self.limits().grace);
        let until = if self.asked { self.until() } else { NEVER };
        self.set_until(drop_at.min(until));
        self.asked = true;
        self.shared.ask_all();
    }

    /// Starts a tick. If it is the only one that may run, it is polled at once, in the same step.
    fn start(
        &mut self,
        cx: &mut Context<'_>,
        times: Times,
        due: Due,
        missed: u64,
        ticks: Pin<&mut dyn Ticks>,
    ) -> Option<Ended> {
        let shared = &self.shared;
        let number = shared.counts.started.load(Acquire);
        add(&shared.counts.started, 1);
        if self.asked {
            // A stop has come while its start was being recorded.
            shared.ask_all();
        }
        // A wall clock may have been put back.
        let lateness = times.clock.saturating_sub(due.at);
        let watching = Watching::begin(shared, lateness);
        let tenant = self
            .special
            .as_ref()
            .and_then(|special| special.tenant.as_ref());
        let tick = Tick {
            shared: Arc::clone(shared),
            index: due.index,
            scheduled: times.now.saturating_sub(lateness),
            lateness,
            missed,
            interval: self.schedule.interval(),
            wall: NonZeroU64::new(due.at).filter(|_| times.by_wall),
            token: tenant.and_then(|tenant| tenant.token()),
            number,
        };
        if self.schedule.is_concurrent() {
            self.start_apart(cx, times.clock, due, tick, watching, ticks);
            return None;
        }
        self.index = due.index;
        if watching.is_on() {
            make(&mut self.special).watching = watching;
        }
        if let Some(special) = &mut self.special {
            special.set_timeout();
            special.tick = special.told(&tick);
            special.due = due.at;
            if special.tenant.is_some() {
                // Polled once the lease has been looked at again.
                special.fresh = Some(tick);
                return None;
            }
        }
        let mut ended = Ended::default();
        if let Some(completed) = self.poll_alone(cx, ticks, &mut Some(tick)) {
            ended.add(completed);
        }
        Some(ended)
    }

    /// Starts a tick beside others.
    fn start_apart(
        &mut self,
        cx: &Context<'_>,
        clock: Nanos,
        due: Due,
        tick: Tick,
        watching: Watching,
        ticks: Pin<&mut dyn Ticks>,
    ) {
        let special = self.special.as_ref();
        let told = special.and_then(|special| special.told(&tick));
        let number = tick.number;
        let mut place = self.place(&*ticks);
        match place.run(|| catch_unwind(AssertUnwindSafe(|| ticks.apart(tick)))) {
            Ok(ticks) => {
                let special = make(&mut self.special);
                let crowd = special.crowd.get_or_insert_with(|| Crowd::new(cx.waker()));
                crowd.push(Entry {
                    shared: Arc::clone(&self.shared),
                    number,
                    index: due.index,
                    due: due.at,
                    guard: special.tenant.as_ref().map(|tenant| tenant.guard()),
                    ticks: Some(ticks),
                    place,
                    settling: None,
                    timeout: special.limits.timeout.map(Timeout::new),
                    tick: told,
                    watching,
                });
            }
            Err(panic) => {
                let error = TickError::Panicked(panic::into_text(panic));
                let verdict = Verdict::Failed(error);
                self.account(due.index, due.at, told.as_ref(), watching, verdict);
                self.schedule.ended(clock, 1, false);
            }
        }
    }

    fn poll_ticks(
        &mut self,
        cx: &mut Context<'_>,
        ticks: Pin<&mut dyn Ticks>,
        began: Nanos,
    ) -> Ended {
        let mut ended = Ended::default();
        if !self.schedule.is_concurrent() {
            if let Some(completed) = self.poll_alone(cx, ticks, &mut None) {
                ended.add(completed);
            }
            return ended;
        }
        while let Some(Special {
            crowd: Some(crowd), ..
        }) = self.special.as_deref_mut()
        {
            match crowd.poll_next() {
                Next::Ended(tick) => {
                    let told = tick.tick.as_ref();
                    let verdict = tick.verdict;
                    ended.add(self.account(tick.index, tick.due, told, tick.watching, verdict));
                    ended.unpolled = self.shared.now().saturating_sub(began) >= TURN;
                }
                Next::None => break,
                Next::Later => ended.unpolled = true,
            }
            if ended.unpolled {
                break;
            }
        }
        ended
    }

    /// Polls the one tick that runs, which begins with `fresh`. True if it has completed, false if it has ended otherwise.
    fn poll_alone(
        &mut self,
        cx: &mut Context<'_>,
        mut ticks: Pin<&mut dyn Ticks>,
        fresh: &mut Option<Tick>,
    ) -> Option<bool> {
        if self.is_starting() {
            return None;
        }
        if self.settling().is_none() {
            let number = self.shared.counts.started.load(Acquire) - 1;
            let mut place = self.place(&*ticks);
            let mut timeout = None;
            if let Some(special) = &mut self.special {
                timeout = special.timeout.as_mut();
                if fresh.is_none() {
                    *fresh = special.fresh.take();
                }
            }
            let (shared, index) = (&self.shared, self.index);
            // All in one step: to be in a place costs as much as an empty tick.
            let polled = place.run(|| {
                let polled = poll_tick(ticks.as_mut(), fresh, timeout, shared, number, cx);
                if polled.is_ready() {
                    shared.drop_caught(index, || ticks.clear());
                }
                polled
            });
            let Poll::Ready(end) = polled else {
                self.keep(place);
                return None;
            };
            let verdict = Verdict::of(end, self.asked);
            if !place.has_pending() {
                return Some(self.account_alone(verdict));
            }
            make(&mut self.special).settling = Some(Settling::new(verdict, place));
        }
        self.settle_alone(cx)
    }

    /// Polls what the tick that ran has left to do.
    #[cold]
    fn settle_alone(&mut self, cx: &mut Context<'_>) -> Option<bool> {
        match self.settling()?.poll(cx) {
            Poll::Ready(verdict) => {
                make(&mut self.special).settling = None;
                Some(self.account_alone(verdict))
            }
            Poll::Pending => None,
        }
    }

    #[inline]
    fn account_alone(&mut self, verdict: Verdict) -> bool {
        let special = self.special.as_mut();
        let (due, told, watching) = match special {
            Some(special) => (
                special.due,
                special.tick.take(),
                std::mem::take(&mut special.watching),
            ),
            None => (0, None, Watching::default()),
        };
        self.account(self.index, due, told.as_ref(), watching, verdict)
    }

    fn settling(&mut self) -> Option<&mut Settling> {
        self.special.as_mut()?.settling.as_mut()
    }

    /// That of the running tick, inside the one that the timer was started in.
    fn place(&mut self, ticks: &dyn Ticks) -> InnerPlace {
        let special = self.special.as_mut();
        let kept = special.and_then(|special| special.place.take());
        kept.unwrap_or_else(|| InnerPlace::of(ticks.starter().clone(), 0))
    }

    /// One in which nothing was entered is as good as a new one.
    fn keep(&mut self, place: InnerPlace) {
        if !place.is_empty() {
            make(&mut self.special).place = Some(place);
        }
    }

    /// Drops the running ticks. They have ended when their teardowns have, which is to be seen by polling them.
    fn drop_ticks(&mut self, cx: &mut Context<'_>, clock: Nanos, mut ticks: Pin<&mut dyn Ticks>) {
        // One whose start may count is dropped once it is known, and has been polled.
        let recording = self.is_recording();
        if !recording {
            self.set_until(NEVER);
            self.forget_start(clock);
        }
        if self.schedule.running() == usize::from(recording) {
            return;
        }
        if self.schedule.is_concurrent() {
            let special = make(&mut self.special);
            let crowd = special.crowd.replace(Crowd::new(cx.waker()));
            for mut entry in crowd.into_iter().flatten() {
                entry.cancel();
                if let Some(crowd) = &special.crowd {
                    crowd.push(entry);
                }
            }
        } else if self.settling().is_none() {
            let mut place = self.place(&*ticks);
            place.run(|| self.clear(ticks.as_mut()));
            let special = make(&mut self.special);
            special.fresh = None;
            special.settling = Some(Settling::new(Verdict::Cancelled, place));
        }
        let ended = self.poll_ticks(cx, ticks, NEVER);
        if ended.unpolled {
            cx.waker().wake_by_ref();
        }
        self.schedule.ended(clock, ended.count, false);
    }

    /// Drops the running tick, unless several may run.
    fn clear(&self, ticks: Pin<&mut dyn Ticks>) {
        self.shared.drop_caught(self.index, || ticks.clear());
    }

    /// Counts a tick that has ended, and tells of it if it failed. True if it came to its own good end.
    fn account(
        &mut self,
        index: u64,
        due: Nanos,
        told: Option<&Tick>,
        watching: Watching,
        verdict: Verdict,
    ) -> bool {
        let why = self.special.as_ref().map_or("", |special| special.why);
        watching.end(&self.shared, &verdict, why);
        self.ended_under_lease(due, matches!(verdict, Verdict::Cancelled));
        let counts = &self.shared.counts;
        let completed = matches!(verdict, Verdict::Completed);
        match verdict {
            Verdict::Completed => add(&counts.completed, 1),
            Verdict::Cancelled => add(&counts.cancelled, 1),
            Verdict::Failed(error) => self.account_failure(index, told, &error),
        }
        if self.stopping {
            self.shared.tell_of_end();
        }
        completed
    }

    #[cold]
    fn account_failure(&self, index: u64, told: Option<&Tick>, error: &TickError) {
        add(&self.shared.counts.failed, 1);
        panic::guarded(|| self.log(index, error));
        let special = self.special.as_ref();
        let hook = special.and_then(|special| special.hook.as_ref());
        if let (Some(hook), Some(tick)) = (hook, told) {
            hook.tell(tick, error);
        }
    }

    fn log(&self, tick: u64, error: &TickError) {
        let timer: &str = self.shared.name();
        match error {
            TickError::Failed(error) => tracing::error!(timer, tick, error, "a tick failed"),
            TickError::Panicked(panic) => tracing::error!(timer, tick, panic, "a tick panicked"),
            TickError::TimedOut(timeout) => {
                tracing::error!(timer, tick, ?timeout, "a tick timed out");
            }
        }
    }

    fn publish(&mut self, times: Times) {
        let next = times.in_tokios(self.schedule.next_due());
        self.shared.set_next_due(next);
        let counts = &self.shared.counts;
        let Dropped { skipped, missed } = self.schedule.take_dropped();
        if skipped > 0 {
            add(&counts.skipped, skipped);
        }
        if missed > 0 {
            add(&counts.missed, missed);
        }
        let crowded = self.schedule.crowded();
        if crowded && !self.crowded {
            self.warn_of_crowd();
        }
        self.crowded = crowded;
    }

    #[cold]
    fn warn_of_crowd(&self) {
        panic::guarded(|| {
            tracing::warn!(
                timer = &**self.shared.name(),
                running = self.schedule.running(),
                "ticks are skipped because so many still run; do they ever end?",
            );
        });
    }
}

/// What the lease asks of a timer with `single`.
impl Driver {
    fn tenant(&mut self) -> Option<&mut Tenant> {
        self.special.as_mut()?.tenant.as_deref_mut()
    }

    fn is_starting(&self) -> bool {
        let special = self.special.as_ref();
        special.is_some_and(|special| special.starting.is_some())
    }

    /// Before ticks are polled: none is once the lease may be over.
    fn obey_lease(&mut self, cx: &mut Context<'_>, ticks: Pin<&mut dyn Ticks>) {
        if self.tenant().is_some() {
            self.obey_tenant(cx, ticks);
        }
    }

    fn obey_tenant(&mut self, cx: &mut Context<'_>, mut ticks: Pin<&mut dyn Ticks>) {
        let now = self.shared.now();
        let times = self.times(now);
        while let Some(event) = self.tenant().and_then(|tenant| tenant.poll(cx, now)) {
            match event {
                Event::Taken { .. } if self.stopping => {}
                Event::Taken { last } => {
                    if let Some(last) = last {
                        self.warn_of_future(last, times.clock);
                    }
                    let after = self.schedule.open(last, times.clock);
                    if let (None, Some(tenant)) = (last, self.tenant()) {
                        tenant.claim.begin(after);
                    }
                }
                Event::Start(at) => {
                    let special = make(&mut self.special);
                    let starting = special.starting.take_if(|(due, _)| due.at == at);
                    if let Some((due, missed)) = starting {
                        self.start(cx, times, due, missed, ticks.as_mut());
                    }
                }
            }
        }
        match self.tenant().map(|tenant| tenant.judge(now)) {
            None | Some(Standing::Holds) => {}
            Some(Standing::Ends(by)) => {
                self.schedule.close();
                self.forget_start(times.clock);
                if !self.asked {
                    self.ask(now, "the lease ends");
                }
                let by = self
                    .tenant()
                    .map_or(now, |tenant| tenant.in_tokios(by, now));
                if self.schedule.running() > 0 {
                    self.set_until(by.min(self.until()));
                }
            }
            Some(Standing::Out) => {
                self.schedule.close();
                self.forget_start(times.clock);
                if self.schedule.running() > 0 {
                    if !self.asked {
                        panic::guarded(|| {
                            tracing::warn!(
                                timer = &**self.shared.name(),
                                running = self.schedule.running(),
                                "the lease is lost; the ticks that run are dropped"
                            );
                        });
                        self.ask(now, "the lease is lost");
                    }
                    self.drop_ticks(cx, times.clock, ticks.as_mut());
                }
            }
        }
    }

    fn warn_of_future(&mut self, last: Nanos, clock: Nanos) {
        if self.schedule.is_ahead(last, clock) {
            let ahead = Duration::from_nanos(last.saturating_sub(clock));
            panic::guarded(|| {
                tracing::warn!(
                    timer = &**self.shared.name(),
                    ?ahead,
                    "the due time that was recorded last is ahead of this host's clock, and nothing runs before it has \
                     passed; is a clock wrong?"
                );
            });
        }
    }

    /// The start of a tick is being recorded, and may count.
    fn is_recording(&self) -> bool {
        let special = self.special.as_ref();
        special.is_some_and(|special| match (&special.starting, &special.tenant) {
            (Some((due, _)), Some(tenant)) => tenant.is_recording(due.at),
            _ => false,
        })
    }

    /// False if the start has to be recorded before.
    fn may_start(&mut self, due: Due, missed: u64) -> bool {
        if self.tenant().is_none() {
            return true;
        }
        let counts = self.schedule.is_due(due.at);
        let tenant = self.tenant();
        let may_start = tenant.is_none_or(|tenant| tenant.claim.start(due.at, counts));
        if !may_start {
            make(&mut self.special).starting = Some((due, missed));
        }
        may_start
    }

    /// The tick whose start is being recorded won't start.
    fn forget_start(&mut self, clock: Nanos) {
        let special = self.special.as_mut();
        let starting = special.and_then(|special| special.starting.take());
        if let Some((due, _)) = starting {
            if let Some(tenant) = self.tenant() {
                tenant.claim.ended(due.at, true);
            }
            self.schedule.ended(clock, 1, false);
        }
    }

    fn ended_under_lease(&mut self, due: Nanos, cancelled: bool) {
        if self.tenant().is_none() {
            return;
        }
        let (stopping, now) = (self.stopping, self.shared.now());
        if let Some(tenant) = self.tenant() {
            let kept = tenant.standing(now) == Standing::Holds && !stopping;
            tenant.claim.ended(due, cancelled && !kept);
        }
    }

    fn tell_lease(&mut self) {
        // What a stop has dropped is for the next holder to run.
        if self.tenant().is_none() || self.stopping || self.schedule.is_closed() {
            return;
        }
        let (newest, dealt_with) = (self.schedule.newest_passed(), self.schedule.dealt_with());
        if let Some(tenant) = self.tenant() {
            tenant.claim.passed(newest, dealt_with);
        }
    }

    /// The lease is given up, or there is none.
    fn has_left(&mut self, cx: &mut Context<'_>, now: Nanos) -> bool {
        let Some(tenant) = self.tenant() else {
            return true;
        };
        tenant.leave(now) || {
            while tenant.poll(cx, now).is_some() {}
            tenant.leave(now)
        }
    }
}

#[derive(Default)]
struct Ended {
    count: usize,
    completed: bool,
    /// Others may have ended too: they are to be polled, but not in this turn.
    unpolled: bool,
}

impl Ended {
    fn add(&mut self, completed: bool) {
        self.count += 1;
        self.completed |= completed;
    }
}

/// What the clocks show.
#[derive(Clone, Copy)]
struct Times {
    /// Since the timer was started.
    now: Nanos,
    /// By the clock that the schedule goes by.
    clock: Nanos,
    /// That is a wall clock, not tokio's.
    by_wall: bool,
}

/// A wall clock is looked at as often, for it may be put forward or back, or the machine suspended.
const LOOK: Nanos = 60 * 1_000_000_000;

impl Times {
    /// What the schedule's clock showed then.
    fn clock_at(&self, at: Nanos) -> Nanos {
        self.clock.saturating_sub(self.now.saturating_sub(at))
    }

    /// What tokio's clock will show then, as far as can be told now.
    fn in_tokios(&self, clock: Nanos) -> Nanos {
        if !self.by_wall || clock == NEVER {
            return clock;
        }
        match clock.checked_sub(self.clock) {
            Some(ahead) => self.now.saturating_add(ahead),
            None => self.now.saturating_sub(self.clock - clock),
        }
    }

    fn wake_at(&self, schedule: &Schedule) -> Nanos {
        let wake_at = self.in_tokios(schedule.wake_at());
        if self.by_wall && wake_at != NEVER {
            return wake_at.min(self.now.saturating_add(LOOK));
        }
        wake_at
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::super::ticks::Seat;
    use super::*;

    #[test]
    fn what_a_tick_touches_lies_in_three_lines_of_a_cache() {
        let before_the_schedule = offset_of!(Task, driver) + offset_of!(Driver, schedule);
        assert!(before_the_schedule + Schedule::TOUCHED <= 136);
        assert!(size_of::<Task>() <= 152);
    }

    fn size_of_seat<F: FnMut(Tick) -> Fut, Fut>(_: F) -> usize {
        size_of::<Seat<F, Fut>>()
    }

    #[test]
    fn timers_lie_at_equal_distances() {
        // glibc adds eight bytes, and rounds up to 16: 32 and 208 of the 512 that a timer has.
        assert!(size_of_seat(|_| async {}) <= 32 - 8);
        let counts = 2 * size_of::<usize>();
        assert!(counts + size_of::<Shared>() <= 208 - 8);
    }

    #[cfg(feature = "calendar")]
    #[test]
    fn timers_by_the_calendar_lie_at_equal_distances() {
        use super::super::calendar::Calendar;
        use super::super::schedule::Irregular;
        use super::super::shared::Rare;

        // 640 with the 512 above.
        assert!(size_of::<Rare>() <= 32 - 8);
        assert!(size_of::<Irregular<Calendar>>() <= 96 - 8);
    }
}
