//! The task of a timer: carries out what the [`Schedule`] decides.

use std::any::Any;
use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::schedule::{Action, Dropped, Due, NEVER, Nanos, STARVED, Schedule};
use super::tick::{Tick, TickReturn};

/// Ticks that may start in one poll before others on the runtime have their turn: a tick that never
/// waits would otherwise hold the thread as long as ticks are due.
const STARTS_PER_POLL: usize = 32;

/// What a handle asks for, in the order of asking.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Pause,
    Resume,
    Trigger,
    SetInterval(Nanos),
    /// Let running ticks end until then.
    Finish(Nanos),
    /// Cancel running ticks, with grace or at once.
    Stop {
        grace: bool,
    },
}

/// What handle, ticks and task have in common; in front what every tick touches.
#[repr(C)]
pub(super) struct Shared {
    start: Instant,
    pub(super) counts: Counts,
    requested: AtomicBool,
    over: AtomicBool,
    /// Dropping the handle doesn't stop the timer.
    pub(super) detached: AtomicBool,
    /// Ticks with a lower number are asked to end.
    asked_below: AtomicU64,
    /// Told when `over` or `asked_below` changes.
    changed: Notify,
    task: AtomicWaker,
    requests: Mutex<Vec<(Nanos, Request)>>,
    name: Cow<'static, str>,
    pub(super) jitter: Nanos,
}

/// Written by the task alone, which is why adding is a load and a store.
#[derive(Default)]
#[repr(C)]
pub(super) struct Counts {
    pub(super) started: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) missed: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Acquire) + more, Release);
}

pub(super) fn nanos(length: Duration) -> Nanos {
    length
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(length.subsec_nanos()))
}

impl Shared {
    pub(super) fn new(name: Cow<'static, str>, jitter: Nanos) -> Shared {
        Shared {
            start: Instant::now(),
            counts: Counts::default(),
            requested: AtomicBool::new(false),
            over: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            asked_below: AtomicU64::new(0),
            changed: Notify::new(),
            task: AtomicWaker::new(),
            requests: Mutex::default(),
            name,
            jitter,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn now(&self) -> Nanos {
        nanos(Instant::now().saturating_duration_since(self.start))
    }

    pub(super) fn instant(&self, at: Nanos) -> Instant {
        self.start + Duration::from_nanos(at)
    }

    pub(super) fn request(&self, request: Request) {
        let at = self.now();
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((at, request));
        self.requested.store(true, Release);
        self.task.wake();
    }

    fn take_requests(&self) -> Vec<(Nanos, Request)> {
        if !self.requested.load(Acquire) {
            return Vec::new();
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        self.requested.store(false, Release);
        std::mem::take(&mut requests)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Waits until no tick runs and none will.
    pub(super) async fn ended(&self) {
        self.until(|| self.is_over()).await;
    }

    /// Waits until the tick with this number is asked to end.
    pub(super) async fn asked(&self, number: u64) {
        self.until(|| number < self.asked_below.load(Acquire)).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }

    fn ask_all(&self) {
        self.asked_below
            .store(self.counts.started.load(Acquire), Release);
        self.changed.notify_waiters();
    }
}

/// Declares the timer over when its task ends, however it ends.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        let Counts {
            started,
            completed,
            failed,
            cancelled,
            ..
        } = &self.0.counts;
        let ended = completed.load(Acquire) + failed.load(Acquire) + cancelled.load(Acquire);
        // A runtime that shuts down drops the task with the ticks in it.
        add(cancelled, started.load(Acquire).saturating_sub(ended));
        self.0.over.store(true, Release);
        self.0.ask_all();
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Nanos,
}

/// The timer's task.
pub(super) fn drive<F, Fut>(
    shared: Arc<Shared>,
    schedule: Schedule,
    limits: Limits,
    make: F,
) -> impl Future<Output = ()> + use<F, Fut>
where
    F: FnMut(Tick) -> Fut,
    Fut: Future<Output: TickReturn>,
{
    let mut driver = Driver {
        armed: schedule.wake_at(),
        schedule,
        drop_at: NEVER,
        finish_at: NEVER,
        inline: Label::default(),
        registered: false,
        asked: false,
        crowded: false,
        stopping: false,
        limits: (limits != Limits::default()).then(|| Box::new(limits)),
        crowd: None,
        make,
        over: Over(shared),
    };
    // A block and not an async fn, which would hold its arguments twice.
    async move {
        let mut alarm = pin!(sleep_until(driver.over.0.instant(driver.armed)));
        let mut slot = pin!(None);
        poll_fn(|cx| driver.poll(cx, alarm.as_mut(), slot.as_mut())).await;
    }
}

struct Driver<F, Fut> {
    schedule: Schedule,
    /// What the alarm is set to.
    armed: Nanos,
    /// When the running ticks, which have been asked to end, are dropped.
    drop_at: Nanos,
    /// When those that are let to their end are asked after all.
    finish_at: Nanos,
    /// Of the running tick, unless several may run; its place is in the task itself.
    inline: Label,
    /// Requests know the task's waker.
    registered: bool,
    /// The running ticks have been asked to end.
    asked: bool,
    /// Told that ticks are skipped at a high cap.
    crowded: bool,
    /// No tick starts any more.
    stopping: bool,
    limits: Option<Box<Limits>>,
    /// The running ticks when several may run at once.
    crowd: Option<Box<FuturesUnordered<Entry<Fut>>>>,
    make: F,
    // Last: the timer is over when the closure, which holds the arguments, is gone.
    over: Over,
}

impl<F, Fut> Driver<F, Fut>
where
    F: FnMut(Tick) -> Fut,
    Fut: Future<Output: TickReturn>,
{
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut alarm: Pin<&mut Sleep>,
        mut slot: Pin<&mut Option<Fut>>,
    ) -> Poll<()> {
        // Once is enough: this is the whole of a task, whose waker stays the same.
        if !self.registered {
            self.over.0.task.register(cx.waker());
            self.registered = true;
        }

        let mut starts = 0;
        while starts < STARTS_PER_POLL {
            let busy = self.schedule.running();
            let ended = if busy > 0 {
                self.poll_ticks(cx, slot.as_mut())
            } else {
                Ended::default()
            };
            // Requests before the clock, so that none is newer than now.
            let requests = self.over.0.take_requests();
            let now = self.over.0.now();
            if ended.count > 0 {
                self.schedule.ended(now, ended.count, ended.completed);
            }
            for (at, request) in requests {
                self.obey(at.min(now), now, request);
            }
            if now >= self.finish_at {
                self.finish_at = NEVER;
                self.ask(now);
            }
            if now >= self.drop_at {
                self.drop_ticks(now, slot.as_mut());
            }
            if self.schedule.running() == 0 {
                self.asked = false;
                self.drop_at = NEVER;
                if self.stopping {
                    self.publish();
                    return Poll::Ready(());
                }
            }

            self.schedule.advance(now, busy);
            let action = self.schedule.act(now);
            self.publish();
            match action {
                Some(Action::Start { due, missed }) => {
                    starts += 1;
                    self.start(now, due, missed, slot.as_mut());
                    continue;
                }
                Some(Action::Cancel { starved }) => {
                    if starved {
                        tracing::warn!(
                            timer = self.over.0.name(),
                            "{STARVED} ticks in a row were cancelled by their successors, none was completed",
                        );
                    }
                    self.ask(now);
                    if now >= self.drop_at {
                        self.drop_ticks(now, slot.as_mut());
                    }
                    continue;
                }
                None => {}
            }

            let wake_at = self
                .schedule
                .wake_at()
                .min(self.drop_at)
                .min(self.finish_at);
            if wake_at == NEVER {
                // An alarm that is still set wakes the task once more, which does no harm.
                return Poll::Pending;
            }
            if wake_at != self.armed {
                self.armed = wake_at;
                alarm.as_mut().reset(self.over.0.instant(wake_at));
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // The alarm is spent: the next one has to be set, whenever it is.
            self.armed = NEVER;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn obey(&mut self, at: Nanos, now: Nanos, request: Request) {
        match request {
            Request::Stop { grace } => {
                self.end(at);
                self.ask(now);
                if !grace {
                    self.drop_at = now;
                }
            }
            Request::Finish(until) => {
                self.end(at);
                self.finish_at = self.finish_at.min(until);
            }
            _ if self.stopping => {}
            Request::Pause => self.schedule.pause(at),
            Request::Resume => self.schedule.resume(at),
            Request::Trigger => self.schedule.trigger(),
            Request::SetInterval(interval) => {
                self.schedule.advance(at, self.schedule.running());
                self.schedule.set_interval(interval, at);
            }
        }
    }

    fn end(&mut self, at: Nanos) {
        self.schedule.pause(at);
        self.stopping = true;
    }

    fn limits(&self) -> Limits {
        self.limits.as_deref().copied().unwrap_or_default()
    }

    /// Asks the running ticks to end within the grace.
    fn ask(&mut self, now: Nanos) {
        if self.schedule.running() == 0 {
            return;
        }
        self.asked = true;
        self.drop_at = self.drop_at.min(now.saturating_add(self.limits().grace));
        self.over.0.ask_all();
    }

    fn start(&mut self, now: Nanos, due: Due, missed: u64, mut slot: Pin<&mut Option<Fut>>) {
        let shared = &self.over.0;
        let number = shared.counts.started.load(Acquire);
        add(&shared.counts.started, 1);
        let tick = Tick {
            shared: Arc::clone(shared),
            index: due.index,
            scheduled: due.at,
            lateness: now - due.at,
            missed,
            interval: self.schedule.interval(),
            number,
        };
        match catch_unwind(AssertUnwindSafe(|| (self.make)(tick))) {
            Ok(tick) if !self.schedule.is_concurrent() => {
                self.inline.renew(due.index, self.limits().timeout);
                slot.set(Some(tick));
            }
            Ok(tick) => {
                let mut label = Label::default();
                label.renew(due.index, self.limits().timeout);
                let crowd = self.crowd.get_or_insert_default();
                crowd.push(Entry {
                    tick: Some(Box::pin(tick)),
                    label,
                });
            }
            Err(panic) => {
                self.account(due.index, End::Panicked(text_of(&*panic)));
                self.schedule.ended(now, 1, false);
            }
        }
    }

    fn poll_ticks(&mut self, cx: &mut Context<'_>, mut slot: Pin<&mut Option<Fut>>) -> Ended {
        let mut ended = Ended::default();
        if let Some(tick) = slot.as_mut().as_pin_mut() {
            if let Poll::Ready(end) = self.inline.poll(tick, cx) {
                let index = self.inline.index;
                self.drop_caught(index, || slot.set(None));
                ended.add(self.account(index, end));
            }
        }
        while let Some(crowd) = &mut self.crowd {
            let Poll::Ready(Some((index, end, tick))) = Pin::new(&mut **crowd).poll_next(cx) else {
                break;
            };
            self.drop_caught(index, || drop(tick));
            ended.add(self.account(index, end));
        }
        ended
    }

    fn drop_ticks(&mut self, now: Nanos, mut slot: Pin<&mut Option<Fut>>) {
        let running = self.schedule.running();
        if slot.is_some() {
            self.drop_caught(self.inline.index, || slot.set(None));
        }
        for entry in self
            .crowd
            .take()
            .iter_mut()
            .flat_map(|crowd| crowd.iter_mut())
        {
            let tick = entry.tick.take();
            self.drop_caught(entry.label.index, || drop(tick));
        }
        add(&self.over.0.counts.cancelled, running as u64);
        self.schedule.ended(now, running, false);
    }

    fn drop_caught(&self, index: u64, drop: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(drop)) {
            let panic = text_of(&*panic);
            tracing::error!(
                timer = self.over.0.name(),
                tick = index,
                panic,
                "a tick panicked while it was dropped"
            );
        }
    }

    /// Counts a tick that has ended, and logs it if it failed. True if it came to its own good end.
    fn account(&self, index: u64, end: End) -> bool {
        let counts = &self.over.0.counts;
        let timer = self.over.0.name();
        match end {
            End::Returned if self.asked => {
                add(&counts.cancelled, 1);
                return false;
            }
            End::Returned => {
                add(&counts.completed, 1);
                return true;
            }
            End::Failed(error) => tracing::error!(timer, tick = index, error, "a tick failed"),
            End::Panicked(panic) => tracing::error!(timer, tick = index, panic, "a tick panicked"),
            End::TimedOut => {
                let timeout = self.limits().timeout;
                tracing::error!(timer, tick = index, ?timeout, "a tick timed out");
            }
        }
        add(&counts.failed, 1);
        false
    }

    fn publish(&mut self) {
        let counts = &self.over.0.counts;
        let Dropped { skipped, missed } = self.schedule.take_dropped();
        if skipped > 0 {
            add(&counts.skipped, skipped);
        }
        if missed > 0 {
            add(&counts.missed, missed);
        }
        let crowded = self.schedule.crowded();
        if crowded && !self.crowded {
            tracing::warn!(
                timer = self.over.0.name(),
                running = self.schedule.running(),
                "ticks are skipped because so many still run; do they ever end?",
            );
        }
        self.crowded = crowded;
    }
}

#[derive(Default)]
struct Ended {
    count: usize,
    completed: bool,
}

impl Ended {
    fn add(&mut self, completed: bool) {
        self.count += 1;
        self.completed |= completed;
    }
}

/// How a tick ended by itself.
enum End {
    Returned,
    Failed(String),
    Panicked(String),
    TimedOut,
}

/// What is known of a running tick beside its future.
#[derive(Default)]
struct Label {
    index: u64,
    limit: Option<Pin<Box<Sleep>>>,
}

impl Label {
    fn renew(&mut self, index: u64, timeout: Option<Duration>) {
        self.index = index;
        let Some(timeout) = timeout else { return };
        match &mut self.limit {
            // As `sleep` does for what the clock can't express.
            Some(limit) => limit.as_mut().reset(sleep(timeout).deadline()),
            None => self.limit = Some(Box::pin(sleep(timeout))),
        }
    }

    fn poll<Fut>(&mut self, tick: Pin<&mut Fut>, cx: &mut Context<'_>) -> Poll<End>
    where
        Fut: Future<Output: TickReturn>,
    {
        match catch_unwind(AssertUnwindSafe(|| tick.poll(cx).map(|end| end_of(&end)))) {
            Ok(Poll::Ready(end)) => Poll::Ready(end),
            Err(panic) => Poll::Ready(End::Panicked(text_of(&*panic))),
            Ok(Poll::Pending) => {
                let Some(limit) = &mut self.limit else {
                    return Poll::Pending;
                };
                // A tick that has used up its share of the poll leaves none for the timeout, which
                // then tells only by being elapsed.
                if limit.as_mut().poll(cx).is_ready() || limit.is_elapsed() {
                    return Poll::Ready(End::TimedOut);
                }
                Poll::Pending
            }
        }
    }
}

fn end_of(end: &impl TickReturn) -> End {
    match end.failure() {
        None => End::Returned,
        Some(error) => End::Failed(error.to_string()),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is no text".to_owned()
    }
}

/// One of several running ticks.
struct Entry<Fut> {
    /// Present until it has ended.
    tick: Option<Pin<Box<Fut>>>,
    label: Label,
}

impl<Fut> Future for Entry<Fut>
where
    Fut: Future<Output: TickReturn>,
{
    type Output = (u64, End, Option<Pin<Box<Fut>>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Entry { tick, label } = &mut *self;
        let Some(running) = tick else {
            return Poll::Pending;
        };
        label
            .poll(running.as_mut(), cx)
            .map(|end| (label.index, end, tick.take()))
    }
}
