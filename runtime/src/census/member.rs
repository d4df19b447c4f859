//! Which threads count, and with whom.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::contexts::{self, Seen};
use super::happenings::{Happening, Happenings};
use super::lock::lock;
#[cfg(feature = "metrics")]
use super::own::{self, OwnSeries};
use super::tasks::{self, Ended, Running};

/// Who counts: nobody, the threads that have joined, or every thread.
static COUNTED: AtomicU8 = AtomicU8::new(NOBODY);
const NOBODY: u8 = 0;
const JOINED: u8 = 1;
const ALL: u8 = 2;

/// What threads join that have joined no other.
static OF_PROCESS: Mutex<Option<Arc<Census>>> = Mutex::new(None);

thread_local! {
    static MEMBER: RefCell<Option<Member>> = const { RefCell::new(None) };
}

/// What is counted together: what one worker does.
#[derive(Default)]
pub(crate) struct Census {
    contexts: Mutex<contexts::OfAll>,
    tasks: Mutex<tasks::OfAll>,
    happenings: Arc<Happenings>,
    #[cfg(feature = "metrics")]
    own: Arc<own::Own>,
}

/// A thread that counts.
pub(super) struct Member {
    pub(super) contexts: Arc<contexts::OfThread>,
    pub(super) tasks: Arc<tasks::OfThread>,
    pub(super) happenings: Arc<Happenings>,
    #[cfg(feature = "metrics")]
    pub(super) own: Arc<own::Own>,
}

impl Census {
    pub(crate) fn new() -> Arc<Census> {
        Arc::default()
    }

    /// What happens on this thread counts here from now on.
    pub(crate) fn join(&self) {
        let member = self.member();
        // At its end a thread counts no more.
        let _ = MEMBER.try_with(|own| own.replace(Some(member)));
        COUNTED.fetch_max(JOINED, Ordering::Relaxed);
    }

    /// What happens on threads that have joined nothing counts here from now on.
    pub(crate) fn of_process(self: &Arc<Self>) {
        *lock(&OF_PROCESS) = Some(Arc::clone(self));
        COUNTED.fetch_max(ALL, Ordering::Relaxed);
    }

    fn member(&self) -> Member {
        Member {
            contexts: lock(&self.contexts).member(),
            tasks: lock(&self.tasks).member(),
            happenings: Arc::clone(&self.happenings),
            #[cfg(feature = "metrics")]
            own: Arc::clone(&self.own),
        }
    }

    /// By the names of their functions.
    pub(crate) fn contexts(&self) -> BTreeMap<&'static str, Seen> {
        lock(&self.contexts).look()
    }

    /// Those that run, the oldest first; and the last of those that have ended, the newest last.
    pub(crate) fn tasks(&self) -> (Vec<Running>, Vec<Ended>) {
        lock(&self.tasks).look()
    }

    /// What the program itself counts.
    #[cfg(feature = "metrics")]
    pub(crate) fn own(&self) -> Vec<OwnSeries> {
        self.own.look()
    }

    /// Waits until something has gone wrong that was not taken before. Cancel-safe.
    pub(crate) async fn happening(&self) {
        self.happenings.wait().await;
    }

    /// What has gone wrong, and how many more there were.
    pub(crate) fn take_happenings(&self) -> (Vec<Happening>, u64) {
        self.happenings.take()
    }
}

/// Counts on this thread, if it is to.
#[inline(always)]
pub(super) fn count<T>(what: impl FnOnce(&Member) -> T) -> Option<T> {
    match COUNTED.load(Ordering::Relaxed) {
        NOBODY => None,
        counted => with_member(counted, what),
    }
}

fn with_member<T>(counted: u8, what: impl FnOnce(&Member) -> T) -> Option<T> {
    MEMBER
        .try_with(|own| {
            let mut own = own.try_borrow_mut().ok()?;
            if own.is_none() && counted == ALL {
                *own = lock(&OF_PROCESS).as_ref().map(|census| census.member());
            }
            own.as_ref().map(what)
        })
        .ok()
        .flatten()
}
