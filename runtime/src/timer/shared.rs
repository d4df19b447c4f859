//! What handle, ticks and task of a timer have in common.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::schedule::Nanos;
use crate::panic;

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

/// In the order of asking, with the time of it.
#[derive(Default)]
pub(super) struct Requests(pub(super) Vec<(Nanos, Request)>);

#[derive(Default)]
struct Inbox {
    /// In a box of its own, which most timers need for their stop alone.
    requests: Option<Box<Requests>>,
    task: Option<Waker>,
}

/// What handle, ticks and task have in common; in front what every tick touches.
#[repr(C)]
pub(super) struct Shared {
    start: Instant,
    requested: AtomicBool,
    over: AtomicBool,
    /// Dropping the handle doesn't stop the timer.
    pub(super) detached: AtomicBool,
    pub(super) counts: Counts,
    /// Ticks with a lower number are asked to end.
    asked_below: AtomicU64,
    /// Told when `over` or `asked_below` changes.
    changed: Notify,
    inbox: Mutex<Inbox>,
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
            changed: Notify::new(),
            inbox: Mutex::default(),
            name,
            jitter,
        }
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
        let at = self.now();
        let mut inbox = self.inbox();
        inbox.requests.get_or_insert_default().0.push((at, request));
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

    pub(super) fn take_requests(&self) -> Option<Box<Requests>> {
        if !self.requested.load(Acquire) {
            return None;
        }
        let mut inbox = self.inbox();
        self.requested.store(false, Release);
        inbox.requests.take()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// No tick runs, and none will.
    pub(super) fn end(&self) {
        self.over.store(true, Release);
        self.ask_all();
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
