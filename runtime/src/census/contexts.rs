//! Which contexts are open, by function.
//!
//! Each thread has a table of its own, whose lock is free but for the moment in which somebody looks, or a context is left on
//! another thread than it was entered on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use slab::Slab;

use super::lock::lock;

/// What is known of the contexts of one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Entered, and neither left to the end nor dropped.
    pub(crate) open: u64,
    /// For how long the oldest of them has been.
    pub(crate) oldest: Option<Duration>,
    pub(crate) entered: u64,
    /// Setups and teardowns that ended in an error, a panic or at their limit.
    pub(crate) failed: u64,
}

/// The tables of all threads.
#[derive(Default)]
pub(super) struct OfAll {
    threads: Vec<Arc<OfThread>>,
    /// What those have counted that have ended.
    ended: BTreeMap<&'static str, Seen>,
}

#[derive(Default)]
pub(super) struct OfThread(Mutex<Table>);

#[derive(Default)]
struct Table {
    functions: Vec<Function>,
    /// By address and length of their names: the same name may stand at several places.
    known: BTreeMap<(usize, usize), usize>,
}

struct Function {
    name: &'static str,
    entered: u64,
    failed: u64,
    /// Since when those have been open that are.
    open: Slab<Duration>,
}

/// A context that is open, until dropped.
pub(crate) struct Open {
    thread: Arc<OfThread>,
    function: u32,
    place: u32,
}

impl Drop for Open {
    #[inline]
    fn drop(&mut self) {
        let mut table = lock(&self.thread.0);
        let function = table.functions.get_mut(self.function as usize);
        function.map(|function| function.open.try_remove(self.place as usize));
    }
}

impl Open {
    /// Its teardown has failed.
    #[cold]
    pub(crate) fn failed(&self) {
        let mut table = lock(&self.thread.0);
        if let Some(function) = table.functions.get_mut(self.function as usize) {
            function.failed += 1;
        }
    }
}

impl OfThread {
    pub(super) fn entered(this: &Arc<OfThread>, name: &'static str) -> Open {
        let now = now();
        let mut table = lock(&this.0);
        let number = table.number(name);
        let function = &mut table.functions[number];
        function.entered += 1;
        Open {
            thread: Arc::clone(this),
            function: number as u32,
            place: function.open.insert(now) as u32,
        }
    }

    pub(super) fn failed(&self, name: &'static str) {
        let mut table = lock(&self.0);
        let function = table.number(name);
        table.functions[function].failed += 1;
    }
}

impl Table {
    fn number(&mut self, name: &'static str) -> usize {
        let key = (name.as_ptr().addr(), name.len());
        *self.known.entry(key).or_insert_with(|| {
            self.functions.push(Function {
                name,
                entered: 0,
                failed: 0,
                open: Slab::new(),
            });
            self.functions.len() - 1
        })
    }

    fn add_to(&self, all: &mut BTreeMap<&'static str, Seen>, now: Duration) {
        for function in &self.functions {
            let seen = all.entry(function.name).or_default();
            seen.open += function.open.len() as u64;
            seen.entered += function.entered;
            seen.failed += function.failed;
            let oldest = function.open.iter().map(|(_, since)| *since).min();
            let oldest = oldest.map(|since| now.saturating_sub(since));
            seen.oldest = seen.oldest.max(oldest);
        }
    }
}

impl OfAll {
    pub(super) fn member(&mut self) -> Arc<OfThread> {
        self.sort_out();
        let thread = Arc::default();
        self.threads.push(Arc::clone(&thread));
        thread
    }

    pub(super) fn look(&mut self) -> BTreeMap<&'static str, Seen> {
        self.sort_out();
        let mut all = self.ended.clone();
        for thread in &self.threads {
            lock(&thread.0).add_to(&mut all, now());
        }
        all
    }

    /// Lets go of the tables of threads that have ended, of which nothing is open any more.
    fn sort_out(&mut self) {
        let ended = &mut self.ended;
        self.threads.retain(|thread| {
            let goes_on = Arc::strong_count(thread) > 1;
            if !goes_on {
                lock(&thread.0).add_to(ended, Duration::ZERO);
            }
            goes_on
        });
    }
}

/// On a clock that is some milliseconds late at times, and takes a quarter of the time to read.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::MonotonicCoarse)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::{Census, entered, failed};

    use std::thread;

    #[test]
    fn where_nobody_counts_nothing_is_kept() {
        assert!(entered("nobody").is_none());
    }

    #[test]
    fn what_a_thread_has_counted_outlives_it() {
        let census = Census::new();
        let of = |name| census.contexts().get(name).copied().unwrap_or_default();
        let kept = thread::scope(|threads| {
            let counted = threads.spawn(|| {
                census.join();
                let kept = entered("one").unwrap();
                let gone = entered("one").unwrap();
                drop(entered("other"));
                gone.failed();
                failed("third");
                kept
            });
            counted.join().unwrap()
        });
        let one = of("one");
        assert_eq!((one.open, one.entered, one.failed), (1, 2, 1));
        assert!(one.oldest.is_some());
        assert_eq!((of("other").open, of("other").entered), (0, 1));
        assert_eq!(of("third").failed, 1);
        drop(kept);
        let gone = Seen {
            open: 0,
            oldest: None,
            entered: 2,
            failed: 1,
        };
        assert_eq!((of("one"), of("one")), (gone, gone));
        assert_eq!(lock(&census.contexts).threads.len(), 0);
    }

    #[test]
    fn functions_of_one_name_are_one() {
        let census = Census::new();
        census.join();
        let [first, second] = ["a name".to_owned(), "a name".to_owned()].map(|name| &*name.leak());
        let _open = [entered(first), entered(second)];
        assert_eq!(census.contexts()["a name"].open, 2);
        assert_eq!(census.contexts().len(), 1);
    }
}
