//! The runtime that a context is entered on.
//!
//! A tokio `Handle` counts its clones in one place for all threads, which makes two threads that enter contexts as
//! slow as one. Here each thread has a count of its own, and remembers for which tasks it is right: a task never
//! changes its runtime.
//!
//! What a task enters in a `block_on` of another runtime can't be told from what it enters elsewhere, since the task is
//! the same and tokio tells the current runtime by a clone of its handle only. The page of `teardown` says so.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task;

use super::place::number_of;

/// A handle that is cheap to keep, if there is a runtime.
#[derive(Debug, Default)]
pub(crate) enum Home {
    #[default]
    Nowhere,
    /// Outside of tasks, where nothing tells cheaply whether it is still the same.
    Own(Handle),
    OfThread(Lent),
}

/// A clone of a thread's handle, present until it is given back.
#[derive(Debug)]
pub(crate) struct Lent(Option<Arc<Handle>>);

const TASKS: usize = 512;
const SPARES: usize = 64;

struct Thread {
    /// The runtime of the tasks that were last seen on this thread.
    handle: Option<Arc<Handle>>,
    /// Clones of it that are no longer in use: taking one of them changes no count.
    spares: Vec<Arc<Handle>>,
}

thread_local! {
    static THREAD: RefCell<Thread> = const {
        RefCell::new(Thread { handle: None, spares: Vec::new() })
    };
    /// The tasks that the handle is right for, where their numbers say.
    static SEEN: [Cell<u64>; TASKS] = const { [const { Cell::new(0) }; TASKS] };
}

impl Home {
    /// Of what is polled or dropped on this thread, which is the task `task`, if it is one.
    #[inline]
    pub(crate) fn current(task: Option<task::Id>) -> Home {
        let Some(task) = task else {
            return Handle::try_current().map_or(Home::Nowhere, Home::Own);
        };
        let number = number_of(task);
        let seen = SEEN.with(|seen| seen[number as usize % TASKS].get());
        let known = THREAD.try_with(|thread| {
            let Ok(mut thread) = thread.try_borrow_mut() else {
                return None;
            };
            if seen != number {
                thread.look();
                SEEN.with(|seen| seen[number as usize % TASKS].set(number));
            }
            let spare = thread.spares.pop();
            spare.or_else(|| thread.handle.clone())
        });
        match known {
            Ok(Some(handle)) => Home::OfThread(Lent(Some(handle))),
            Ok(None) | Err(_) => Home::own(),
        }
    }

    #[cold]
    fn own() -> Home {
        Handle::try_current().map_or(Home::Nowhere, Home::Own)
    }

    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Home::Nowhere)
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        match self {
            Home::Nowhere => None,
            Home::Own(handle) => Some(handle),
            Home::OfThread(Lent(handle)) => handle.as_deref(),
        }
    }

    pub(crate) fn take(&mut self) -> Option<Handle> {
        let handle = self.handle().cloned();
        *self = Home::Nowhere;
        handle
    }
}

impl From<Handle> for Home {
    fn from(handle: Handle) -> Home {
        Home::Own(handle)
    }
}

impl Thread {
    /// A task that this thread doesn't know: it may be of another runtime.
    #[cold]
    fn look(&mut self) {
        let current = Handle::try_current().ok();
        let id = |handle: &Handle| handle.id();
        if current.as_ref().map(id) != self.handle.as_deref().map(id) {
            self.handle = current.map(Arc::new);
            self.spares.clear();
            SEEN.with(|seen| seen.iter().for_each(|seen| seen.set(0)));
        }
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        let handle = &mut self.0;
        // At the end of a thread there is nothing to give it back to.
        let _ = THREAD.try_with(|thread| {
            if let Ok(mut thread) = thread.try_borrow_mut() {
                let own = thread.handle.as_ref().zip(handle.as_ref());
                let is_own = own.is_some_and(|(own, handle)| Arc::ptr_eq(own, handle));
                if is_own && thread.spares.len() < SPARES {
                    thread.spares.extend(handle.take());
                }
            }
        });
    }
}
