//! What handle, ticks and task of a timer have in common.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

#[cfg(feature = "monitor")]
use super::details::Details;
use super::schedule::{NEVER, Nanos};
use crate::panic;

/// What a handle asks for, in the order of asking.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Pause,
    Resume,
    Trigger,
    SetInterval(Nanos),
    /// A new grid, from then on.
    Reset,
    /// Let running ticks end until then.
    Finish(Nanos),
    /// Cancel running ticks, with grace or at once.
    Stop {
        grace: bool,
    },
}

/// In the order of asking, with the time of it.
pub(super) type Requests = Vec<(Nanos, Request)>;

#[derive(Default)]
struct Inbox {
    /// In a box of its own, which most timers need for their stop alone.
    letters: Option<Box<Letters>>,
    task: Option<Waker>,
}

#[derive(Default)]
struct Letters {
    requests: Requests,
    /// The numbers of ticks that wait in a `finish` of their own timer: that doesn't wait for them.
    leaving: Vec<u64>,
}

/// What handle, ticks and task have in common; in front what every tick touches.
///
/// It has 184 bytes at most. A small closure, this, and tokio's piece of memory for the task then take 512 bytes from
/// glibc's allocator and leave no gap, so that timers that are started one after the other lie at equal distances. The
/// processor learns those, and fetches what the next tick is going to touch. Without that, a tick of one in thousands
/// costs a quarter more.
#[repr(C)]
pub(super) struct Shared {
    start: Instant,
    requested: AtomicBool,
    over: AtomicBool,
    /// Dropping the handle doesn't stop the timer.
    pub(super) detached: AtomicBool,
    next_due: AtomicU64,
    pub(super) counts: Counts,
    /// Ticks with a lower number are asked to end.
    asked_below: AtomicU64,
    /// Told when `over` or `asked_below` changes, and of every tick that ends once the timer is stopping.
    changed: Notify,
    inbox: Mutex<Inbox>,
    name: Cow<'static, str>,
    rare: Option<Box<Rare>>,
}

/// What most timers do without: thousands of them cost the memory that their ticks touch.
pub(super) struct Rare {
    jitter: Nanos,
    #[cfg(feature = "calendar")]
    zone: jiff::tz::TimeZone,
    #[cfg(feature = "monitor")]
    details: Option<Box<Details>>,
}

impl Rare {
    fn new(jitter: Nanos) -> Box<Rare> {
        Box::new(Rare {
            jitter,
            #[cfg(feature = "calendar")]
            zone: jiff::tz::TimeZone::UTC,
            #[cfg(feature = "monitor")]
            details: None,
        })
    }
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

pub(super) fn add(counter: &AtomicU64, more: u64) {
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
            next_due: AtomicU64::new(NEVER),
            changed: Notify::new(),
            inbox: Mutex::default(),
            name,
            rare: (jitter > 0).then(|| Rare::new(jitter)),
        }
    }

    #[cfg(any(feature = "calendar", feature = "monitor"))]
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| Rare::new(0))
    }

    /// With what those see who look into the server.
    #[cfg(feature = "monitor")]
    pub(super) fn with_details(mut self, details: Details) -> Shared {
        self.rare().details = Some(Box::new(details));
        self
    }

    #[cfg(feature = "monitor")]
    pub(super) fn details(&self) -> Option<&Details> {
        self.rare.as_ref()?.details.as_deref()
    }

    /// With the zone that ticks tell their due times in.
    #[cfg(feature = "calendar")]
    pub(super) fn in_zone(mut self, zone: jiff::tz::TimeZone) -> Shared {
        self.rare().zone = zone;
        self
    }

    /// `time` in that zone.
    #[cfg(feature = "calendar")]
    pub(super) fn zoned(&self, time: std::time::SystemTime) -> String {
        let rare = self.rare.as_ref();
        let zone = rare.map_or(jiff::tz::TimeZone::UTC, |rare| rare.zone.clone());
        match jiff::Timestamp::try_from(time) {
            Ok(time) => time.to_zoned_datetime(zone).to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// The interval stays above it; [`NEVER`] for a timer whose interval can't be changed.
    pub(super) fn jitter(&self) -> Nanos {
        self.rare.as_ref().map_or(0, |rare| rare.jitter)
    }

    pub(super) fn name(&self) -> &Cow<'static, str> {
        &self.name
    }

    pub(super) fn now(&self) -> Nanos {
        nanos(Instant::now().saturating_duration_since(self.start))
    }

    pub(super) fn instant(&self, at: Nanos) -> Instant {
        self.start + Duration::from_nanos(at)
    }

    pub(super) fn request(&self, request: Request) {
        // While a thread ends, tokio's clock may be gone: then it counts from when the task takes it.
        let at = match Handle::try_current() {
            Err(error) if error.is_thread_local_destroyed() => NEVER,
            _ => self.now(),
        };
        let mut inbox = self.inbox();
        let letters = inbox.letters.get_or_insert_default();
        letters.requests.push((at, request));
        self.requested.store(true, Release);
        // It stays where it is: the task, which tells it but once, may be about to look for another request.
        let task = inbox.task.clone();
        drop(inbox);
        if let Some(task) = task {
            task.wake();
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called by the task before it takes requests for the first time.
    pub(super) fn register(&self, task: &Waker) {
        self.inbox().task = Some(task.clone());
    }

    #[inline]
    pub(super) fn take_requests(&self) -> Option<Requests> {
        if self.requested.load(Acquire) {
            self.take_letters()
        } else {
            None
        }
    }

    #[cold]
    fn take_letters(&self) -> Option<Requests> {
        let mut inbox = self.inbox();
        self.requested.store(false, Release);
        let letters = inbox.letters.as_mut()?;
        Some(std::mem::take(&mut letters.requests))
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// No tick runs, and none will.
    pub(super) fn end(&self) {
        self.set_next_due(NEVER);
        self.over.store(true, Release);
        self.ask_all();
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let next = self.next_due.load(Acquire);
        (next != NEVER).then(|| self.instant(next))
    }

    pub(super) fn set_next_due(&self, at: Nanos) {
        self.next_due.store(at, Release);
    }

    /// Waits until no tick runs and none will.
    pub(super) async fn ended(&self) {
        self.until(|| self.is_over()).await;
    }

    /// Waits until no tick runs but that with this number and others that wait in the same way, and none will start.
    /// To be called once the timer has been asked to end.
    pub(super) async fn others_ended(&self, number: u64) {
        let _leaving = Leaving::enter(self, number);
        self.until(|| self.is_over() || self.running() <= self.leaving())
            .await;
    }

    /// How many ticks run.
    fn running(&self) -> u64 {
        let Counts {
            started,
            completed,
            failed,
            cancelled,
            ..
        } = &self.counts;
        let ended = completed.load(Acquire) + failed.load(Acquire) + cancelled.load(Acquire);
        started.load(Acquire).saturating_sub(ended)
    }

    fn leaving(&self) -> u64 {
        let inbox = self.inbox();
        let Some(letters) = &inbox.letters else {
            return 0;
        };
        let mut numbers = letters.leaving.clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len() as u64
    }

    pub(super) fn tell_of_end(&self) {
        self.changed.notify_waiters();
    }

    /// The tick with this number is asked to end.
    pub(super) fn is_asked(&self, number: u64) -> bool {
        number < self.asked_below.load(Acquire)
    }

    /// Waits until the tick with this number is asked to end.
    pub(super) async fn asked(&self, number: u64) {
        self.until(|| self.is_asked(number)).await;
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

    pub(super) fn drop_caught(&self, index: u64, drop: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(drop)) {
            let panic = panic::into_text(panic);
            panic::guarded(|| {
                tracing::error!(
                    timer = &*self.name,
                    tick = index,
                    panic,
                    "a tick panicked while it was dropped"
                );
            });
        }
    }

    pub(super) fn ask_all(&self) {
        self.asked_below
            .store(self.counts.started.load(Acquire), Release);
        self.changed.notify_waiters();
    }
}

/// A tick that waits in a `finish` of its own timer.
struct Leaving<'s> {
    shared: &'s Shared,
    number: u64,
}

impl Leaving<'_> {
    fn enter(shared: &Shared, number: u64) -> Leaving<'_> {
        let mut inbox = shared.inbox();
        let letters = inbox.letters.get_or_insert_default();
        letters.leaving.push(number);
        drop(inbox);
        shared.tell_of_end();
        Leaving { shared, number }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut inbox = self.shared.inbox();
        let letters = inbox.letters.get_or_insert_default();
        let found = letters
            .leaving
            .iter()
            .position(|&number| number == self.number);
        if let Some(found) = found {
            letters.leaving.swap_remove(found);
        }
    }
}
