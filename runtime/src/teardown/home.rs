//! The runtime that a context is entered on.
//!
//! A tokio `Handle` counts its clones in one place for all threads, which makes two threads that enter contexts as
//! slow as one. Here each thread has a count of its own, and remembers for which tasks it is right: a task never
//! changes its runtime.
//!
//! What a task enters in a `block_on` of another runtime can't be told from what it enters elsewhere, since the task is
//! the same and tokio tells the current runtime by a clone of its handle only. The page of `teardown` says so.

use std::cell::{Cell, RefCell};
use std::ptr;
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
    /// The tasks that the handle is right for, where their numbers say.
    seen: [Cell<u64>; TASKS],
    /// Where the handle in `kept` is, told without borrowing that: each context that is left asks.
    own: Cell<*const Handle>,
    /// A clone of it that is not in use: taking it changes no count.
    spare: Cell<Option<Arc<Handle>>>,
    kept: RefCell<Kept>,
}

struct Kept {
    /// Of the runtime of the tasks that were last seen on this thread.
    handle: Option<Arc<Handle>>,
    /// More clones that are not in use.
    spares: Vec<Arc<Handle>>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            seen: [const { Cell::new(0) }; TASKS],
            own: Cell::new(ptr::null()),
            spare: Cell::new(None),
            kept: RefCell::new(Kept { handle: None, spares: Vec::new() }),
        }
    };
}

impl Home {
    /// It is that of what is polled or dropped on this thread, which is the task `task`, if it is one.
    #[inline(always)]
    pub(crate) fn enter_current(&mut self, task: Option<task::Id>) {
        match task.and_then(borrow) {
            Some(handle) => *self = Home::OfThread(Lent(Some(handle))),
            None => self.enter_own(),
        }
    }

    #[inline(never)]
    fn enter_own(&mut self) {
        *self = Handle::try_current().map_or(Home::Nowhere, Home::Own);
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

/// A clone of the handle of the task's runtime, as the thread keeps it.
#[inline]
fn borrow(task: task::Id) -> Option<Arc<Handle>> {
    let number = number_of(task);
    let known = THREAD.try_with(|thread| {
        let seen = &thread.seen[number as usize % TASKS];
        if seen.get() != number {
            thread.look();
            seen.set(number);
        }
        thread.spare.take().or_else(|| thread.clone_kept())
    });
    known.ok().flatten()
}

impl From<Handle> for Home {
    fn from(handle: Handle) -> Home {
        Home::Own(handle)
    }
}

impl Thread {
    /// A task that this thread doesn't know: it may be of another runtime.
    #[cold]
    fn look(&self) {
        let current = Handle::try_current().ok();
        let mut kept = self.kept.borrow_mut();
        let id = |handle: &Handle| handle.id();
        if current.as_ref().map(id) != kept.handle.as_deref().map(id) {
            let before = std::mem::replace(
                &mut *kept,
                Kept {
                    handle: current.map(Arc::new),
                    spares: Vec::new(),
                },
            );
            self.own
                .set(kept.handle.as_ref().map_or(ptr::null(), Arc::as_ptr));
            self.seen.iter().for_each(|seen| seen.set(0));
            // What a runtime drops with its last handle may come here again.
            drop(kept);
            drop((before, self.spare.take()));
        }
    }

    #[cold]
    fn clone_kept(&self) -> Option<Arc<Handle>> {
        let mut kept = self.kept.borrow_mut();
        kept.spares.pop().or_else(|| kept.handle.clone())
    }

    #[cold]
    fn keep(&self, handle: Arc<Handle>) {
        let spares = &mut self.kept.borrow_mut().spares;
        if spares.len() < SPARES {
            spares.push(handle);
        }
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        // At the end of a thread there is nothing to give it back to.
        let _ = THREAD.try_with(|thread| {
            if self.0.as_ref().map(Arc::as_ptr) == Some(thread.own.get()) {
                if let Some(more) = thread.spare.replace(self.0.take()) {
                    thread.keep(more);
                }
            }
        });
    }
}
