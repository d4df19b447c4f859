//! Which tasks this library polls, and how the last of them ended.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slab::Slab;

use super::lock::lock;

/// How many are remembered that have ended.
const ENDED: usize = 1000;
/// How many names are kept for those to come that have the same.
const NAMES: usize = 100;
/// The most bytes that are remembered of why one has failed.
const WHY: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    #[cfg(feature = "timer")]
    Tick,
    Handler,
    #[cfg(feature = "scope")]
    Child,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "timer")]
            Kind::Tick => "tick",
            Kind::Handler => "handler",
            #[cfg(feature = "scope")]
            Kind::Child => "child",
        }
    }
}

/// What a task is called: a text, or where it was spawned.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    Text(Arc<str>),
    #[cfg_attr(not(feature = "scope"), expect(dead_code))]
    Place(&'static Location<'static>),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Text(text) => f.write_str(text),
            Name::Place(place) => place.fmt(f),
        }
    }
}

/// How a task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Completed,
    Failed,
    Panicked,
    Cancelled,
}

impl How {
    pub(crate) fn name(self) -> &'static str {
        match self {
            How::Completed => "completed",
            How::Failed => "failed",
            How::Panicked => "panicked",
            How::Cancelled => "cancelled",
        }
    }
}

fn clipped(text: &str) -> Box<str> {
    let mut ends = (0..=text.len().min(WHY)).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].into()
}

/// A task that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) name: Name,
    since: Instant,
}

impl Running {
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// A task that has.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) kind: Kind,
    pub(crate) name: Name,
    pub(crate) how: How,
    /// The error, or for what reason it was cancelled.
    pub(crate) why: Option<Box<str>>,
    /// In seconds.
    pub(crate) after: f32,
    pub(crate) at: SystemTime,
}

/// As it is remembered, in 48 bytes: a thousand of them are a good part of what a worker may use for all this.
#[derive(Clone, Debug)]
struct Kept {
    name: Name,
    why: Option<Box<str>>,
    /// Milliseconds since 1970.
    at: u64,
    /// Seconds.
    after: f32,
    kind: Kind,
    how: How,
}

/// The tables of all threads.
#[derive(Default)]
pub(super) struct OfAll {
    threads: Vec<Arc<OfThread>>,
}

#[derive(Default)]
pub(super) struct OfThread(Mutex<Table>);

#[derive(Default)]
struct Table {
    running: Slab<Running>,
    ended: VecDeque<Kept>,
    names: BTreeMap<Arc<str>, ()>,
}

/// A task, for as long as it lasts.
pub(crate) struct Task {
    thread: Arc<OfThread>,
    place: usize,
    since: Instant,
    over: bool,
}

impl Task {
    /// For how long it has been running.
    #[cfg_attr(not(feature = "timer"), expect(dead_code))]
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn complete(mut self) {
        self.over(How::Completed, "");
    }

    /// With this error.
    pub(crate) fn fail(mut self, why: &str) {
        self.over(How::Failed, why);
    }

    #[cfg_attr(not(any(feature = "scope", feature = "timer")), expect(dead_code))]
    pub(crate) fn panic(mut self, why: &str) {
        self.over(How::Panicked, why);
    }

    /// For this reason.
    pub(crate) fn cancel(mut self, why: &str) {
        self.over(How::Cancelled, why);
    }

    fn over(&mut self, how: How, why: &str) {
        let after = self.since.elapsed();
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut table = lock(&self.thread.0);
        self.over = true;
        let Some(Running { kind, name, .. }) = table.running.try_remove(self.place) else {
            return;
        };
        match table.ended.len() {
            // To grow step by step would leave the smaller ones behind, which is as much again.
            0 => table.ended.reserve_exact(ENDED),
            ENDED => _ = table.ended.pop_front(),
            _ => {}
        }
        table.ended.push_back(Kept {
            kind,
            name,
            how,
            why: (!why.is_empty()).then(|| clipped(why)),
            after: after.as_secs_f32(),
            at: at.map_or(0, |at| at.as_millis() as u64),
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.over {
            match std::thread::panicking() {
                true => self.over(How::Panicked, ""),
                false => self.over(How::Cancelled, "its event loop has ended"),
            }
        }
    }
}

impl OfThread {
    pub(super) fn begin(this: &Arc<OfThread>, kind: Kind, name: &str) -> Task {
        let mut table = lock(&this.0);
        let name = table.name(name);
        OfThread::begin_in(this, &mut table, kind, name)
    }

    /// One that was spawned there.
    #[cfg(feature = "scope")]
    pub(super) fn begin_at(
        this: &Arc<OfThread>,
        kind: Kind,
        place: &'static Location<'static>,
    ) -> Task {
        OfThread::begin_in(this, &mut lock(&this.0), kind, Name::Place(place))
    }

    fn begin_in(this: &Arc<OfThread>, table: &mut Table, kind: Kind, name: Name) -> Task {
        let since = Instant::now();
        Task {
            thread: Arc::clone(this),
            place: table.running.insert(Running { kind, name, since }),
            since,
            over: false,
        }
    }
}

impl Table {
    fn name(&mut self, name: &str) -> Name {
        if let Some((known, ())) = self.names.get_key_value(name) {
            return Name::Text(Arc::clone(known));
        }
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let new: Arc<str> = name.into();
        self.names.insert(Arc::clone(&new), ());
        Name::Text(new)
    }
}

impl OfAll {
    pub(super) fn member(&mut self) -> Arc<OfThread> {
        self.sort_out();
        let thread = Arc::default();
        self.threads.push(Arc::clone(&thread));
        thread
    }

    /// Those that run, the oldest first; and the last of those that have ended, the newest last.
    pub(super) fn look(&self) -> (Vec<Running>, Vec<Ended>) {
        let (mut running, mut ended) = (Vec::new(), Vec::<Kept>::new());
        for thread in &self.threads {
            let table = lock(&thread.0);
            running.extend(table.running.iter().map(|(_, task)| task.clone()));
            ended.extend(table.ended.iter().cloned());
        }
        running.sort_by_key(|task| task.since);
        ended.sort_by_key(|task| task.at);
        ended.drain(..ended.len().saturating_sub(ENDED));
        let ended = ended.into_iter().map(|kept| Ended {
            kind: kept.kind,
            name: kept.name,
            how: kept.how,
            why: kept.why,
            after: kept.after,
            at: UNIX_EPOCH + Duration::from_millis(kept.at),
        });
        (running, ended.collect())
    }

    /// Puts together what is remembered of threads that have ended.
    fn sort_out(&mut self) {
        let (go_on, over): (Vec<_>, Vec<_>) = std::mem::take(&mut self.threads)
            .into_iter()
            .partition(|thread| Arc::strong_count(thread) > 1);
        self.threads = go_on;
        if let Some((first, others)) = over.split_first() {
            let mut table = lock(&first.0);
            for other in others {
                table.ended.append(&mut lock(&other.0).ended);
            }
            table.ended.make_contiguous().sort_by_key(|task| task.at);
            let surplus = table.ended.len().saturating_sub(ENDED);
            table.ended.drain(..surplus);
            drop(table);
            self.threads.push(Arc::clone(first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::{Census, begin};

    use std::thread;

    #[test]
    fn where_nobody_counts_nothing_is_kept() {
        assert!(begin(Kind::Handler, "nobody").is_none());
    }

    #[test]
    fn tasks_are_known_until_they_end_and_the_last_thousand_after_that() {
        let census = Census::new();
        census.join();
        let first = begin(Kind::Handler, "first").unwrap();
        for _ in 0..1500 {
            begin(Kind::Handler, "other").unwrap().complete();
        }
        let (running, ended) = census.tasks();
        assert_eq!((running.len(), ended.len()), (1, 1000));
        assert_eq!(running[0].name.to_string(), "first");
        first.fail(&"é".repeat(500));
        let (running, ended) = census.tasks();
        assert_eq!((running.len(), ended.len()), (0, 1000));
        assert_eq!(ended[999].how, How::Failed);
        assert_eq!(ended[999].why.as_deref(), Some(&*"é".repeat(100)));
        assert_eq!(size_of::<Kept>(), 48);
    }

    #[test]
    fn one_that_is_dropped_is_cancelled_or_has_panicked() {
        let census = Census::new();
        census.join();
        drop(begin(Kind::Handler, "dropped"));
        let panicked = std::panic::catch_unwind(|| {
            let _task = begin(Kind::Handler, "panics");
            panic!("asked to");
        });
        assert!(panicked.is_err());
        let hows: Vec<How> = census.tasks().1.into_iter().map(|task| task.how).collect();
        assert_eq!(hows, [How::Cancelled, How::Panicked]);
    }

    #[test]
    fn what_ended_with_its_thread_is_remembered() {
        let census = Census::new();
        for _ in 0..10 {
            thread::scope(|threads| {
                threads.spawn(|| {
                    census.join();
                    begin(Kind::Handler, "gone").unwrap().complete();
                });
            });
        }
        census.join();
        assert_eq!(census.tasks().1.len(), 10);
        assert!(lock(&census.tasks).threads.len() <= 3);
    }
}
