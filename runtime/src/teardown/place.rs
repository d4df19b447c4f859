//! Places: where contexts are entered, which of two was entered first, and what is inside what.
//!
//! Outside of everything, the place is the task that is polled or dropped, or the thread if there is none. Inside
//! of it is what a context's own function and the body of its `with` enter, what a tick, a scope's child or a
//! handler enters. Such a place costs nothing until a context is entered in it: only then is it made.

use std::any::Any;
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use scoped_tls_hkt::scoped_thread_local;
use tokio::task;

use super::ledger::{Path, Range};

/// A place that is known.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Task(task::Id),
    Thread(u64),
    Inner(Arc<Node>),
    /// The place of a single context: one of several in the same place, between which no order is kept.
    Member(Arc<Node>, u32),
}

/// A place inside another.
#[derive(Debug)]
pub(crate) struct Node {
    outer: Place,
    /// When it began, among all that was entered in `outer`.
    at: AtomicU64,
    /// The number of the next context that is entered in it.
    next: AtomicU64,
    /// How many detached teardowns are pending inside.
    pending: AtomicUsize,
}

/// What a place is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Task(task::Id),
    Thread(u64),
    /// By its address, which no other place has for as long as a teardown inside it is pending.
    Inner(usize, u64),
}

/// Where members of a group are in the place of their group: they are entered before all else, and all at once.
const WITH_ALL_OTHERS: u64 = 0;

/// Numbers for contexts in tasks and threads. Some share a counter, which does no harm.
static NUMBERS: [Numbers; 256] = [const { Numbers(AtomicU64::new(1)) }; 256];

#[repr(align(64))]
struct Numbers(AtomicU64);

/// Tells the number that is written to it.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// tokio's number of a task.
#[inline]
pub(super) fn number_of(task: task::Id) -> u64 {
    let mut number = Number::default();
    task.hash(&mut number);
    number.finish()
}

fn number_of_thread() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    thread_local!(static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed));
    // A thread that ends has no number any more; 0 stands for all of these.
    THREAD.try_with(|number| *number).unwrap_or(0)
}

fn next_of(number: u64) -> u64 {
    let counter = &NUMBERS[(number % NUMBERS.len() as u64) as usize];
    counter.0.fetch_add(1, Ordering::Relaxed)
}

impl Place {
    /// The place of whatever is polled or dropped on this thread.
    pub(crate) fn current() -> Place {
        Place::current_in(task::try_id())
    }

    /// The same in the task `task`, which is the one that is polled or dropped on this thread, if it is one.
    #[inline(always)]
    pub(crate) fn current_in(task: Option<task::Id>) -> Place {
        let inner = if STEP.is_set() {
            STEP.with(|step| step.node_in(task))
        } else {
            None
        };
        match (inner, task) {
            (Some(node), _) => Place::Inner(node),
            (None, Some(task)) => Place::Task(task),
            (None, None) => Place::Thread(number_of_thread()),
        }
    }

    /// The number of what is entered in it now. Numbers rise.
    pub(crate) fn next(&self) -> u64 {
        match self {
            Place::Task(id) => next_of(number_of(*id)),
            Place::Thread(number) => next_of(*number),
            Place::Inner(node) => node.next.fetch_add(1, Ordering::Relaxed),
            Place::Member(..) => 1,
        }
    }

    /// A place inside this one, which begins now.
    #[cfg(any(feature = "scope", feature = "server"))]
    pub(crate) fn inner(&self) -> InnerPlace {
        InnerPlace::of(self.clone(), self.next())
    }

    /// A place for one context alone, beside those of other members.
    pub(crate) fn member(&self, index: usize) -> Place {
        match self {
            Place::Inner(node) => Place::Member(Arc::clone(node), index as u32),
            other => other.clone(),
        }
    }

    pub(super) fn key(&self) -> Key {
        match self {
            Place::Task(id) => Key::Task(*id),
            Place::Thread(number) => Key::Thread(*number),
            Place::Inner(node) => Key::Inner(Arc::as_ptr(node) as usize, 0),
            Place::Member(node, index) => {
                Key::Inner(Arc::as_ptr(node) as usize, u64::from(*index) + 1)
            }
        }
    }

    /// This place and those it is inside of.
    pub(super) fn path(&self, at: u64) -> Path<Key> {
        let mut path = vec![(self.key(), at)];
        let mut place = self;
        loop {
            let at;
            (place, at) = match place {
                Place::Task(_) | Place::Thread(_) => return path,
                Place::Inner(node) => (&node.outer, node.at.load(Ordering::Relaxed)),
                Place::Member(node, _) => {
                    let group = Key::Inner(Arc::as_ptr(node) as usize, 0);
                    path.push((group, WITH_ALL_OTHERS));
                    (&node.outer, node.at.load(Ordering::Relaxed))
                }
            };
            path.push((place.key(), at));
        }
    }

    /// A teardown of what was entered in it is pending.
    pub(super) fn add_pending(&self) {
        self.count(|pending| pending.fetch_add(1, Ordering::AcqRel));
    }

    /// A teardown of what was entered in it is no longer pending.
    pub(super) fn remove_pending(&self) {
        self.count(|pending| pending.fetch_sub(1, Ordering::AcqRel));
    }

    fn count(&self, count: impl Fn(&AtomicUsize) -> usize) {
        let mut place = self;
        while let Place::Inner(node) | Place::Member(node, _) = place {
            count(&node.pending);
            place = &node.outer;
        }
    }

    /// All that is inside it.
    pub(super) fn all(&self) -> Range<Key> {
        Range {
            place: self.key(),
            from: 0,
            to: u64::MAX,
        }
    }
}

impl Node {
    /// Whether detached teardowns are pending inside.
    #[inline(always)]
    pub(crate) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }
}

impl Drop for Node {
    /// A long way in, which is undone step by step instead of call by call.
    fn drop(&mut self) {
        let mut outer = std::mem::replace(&mut self.outer, Place::Thread(0));
        while let Place::Inner(node) | Place::Member(node, _) = outer {
            let Some(mut node) = Arc::into_inner(node) else {
                return;
            };
            outer = std::mem::replace(&mut node.outer, Place::Thread(0));
        }
    }
}

/// What is polled or dropped in a place.
struct Step<'a> {
    place: &'a Cell<InnerPlace>,
    /// The task that it is polled or dropped in.
    task: Option<task::Id>,
    /// What is within reach of it.
    reach: Option<&'a dyn Any>,
}

scoped_thread_local!(
    /// That of this thread. All that is known of it is in one, because to set one costs as much as an empty tick.
    static STEP: for<'a> &'a Step<'a>
);

impl Step<'_> {
    fn node_in(&self, task: Option<task::Id>) -> Option<Arc<Node>> {
        (self.task == task).then(|| {
            let mut place = self.place.replace(InnerPlace::nowhere());
            let node = place.node();
            self.place.set(place);
            node
        })
    }
}

/// Gives `with` what is within reach of what is polled on this thread.
///
/// Panics outside of any place.
#[inline]
pub(crate) fn reach<T: 'static, O>(with: impl FnOnce(&T) -> O) -> Option<O> {
    STEP.with(|step| step.reach?.downcast_ref().map(with))
}

/// A place inside another, made when the first context is entered in it.
#[derive(Debug)]
pub(crate) enum InnerPlace {
    Empty { outer: Place, at: u64 },
    Made(Arc<Node>),
}

impl InnerPlace {
    /// A place that began in `outer` at `at`; at 0 it hasn't begun.
    pub(crate) fn of(outer: Place, at: u64) -> InnerPlace {
        InnerPlace::Empty { outer, at }
    }

    /// Stands for a place until it is known.
    pub(crate) const fn nowhere() -> InnerPlace {
        InnerPlace::Empty {
            outer: Place::Thread(0),
            at: 0,
        }
    }

    /// A place inside the current one, which begins now.
    #[cfg(feature = "scope")]
    pub(crate) fn in_current() -> InnerPlace {
        Place::current().inner()
    }

    /// The place as it is known to others: it is made now.
    pub(crate) fn place(&mut self) -> Place {
        Place::Inner(self.node())
    }

    /// Polls or drops something in this place. What that does in other tasks isn't in it.
    #[inline(always)]
    pub(crate) fn run<T>(&mut self, step: impl FnOnce() -> T) -> T {
        self.run_in(task::try_id(), None, step)
    }

    /// The same in the task `task`, with something within its [`reach`].
    #[inline(always)]
    pub(crate) fn run_in<T>(
        &mut self,
        task: Option<task::Id>,
        reach: Option<&dyn Any>,
        step: impl FnOnce() -> T,
    ) -> T {
        let place = Cell::from_mut(self);
        STEP.set(&Step { place, task, reach }, step)
    }

    #[inline]
    fn node(&mut self) -> Arc<Node> {
        match self {
            InnerPlace::Made(node) => Arc::clone(node),
            InnerPlace::Empty { .. } => self.make(),
        }
    }

    #[cold]
    fn make(&mut self) -> Arc<Node> {
        let (outer, at) = self.outer();
        let node = Arc::new(Node {
            outer: outer.clone(),
            at: AtomicU64::new(if at == 0 { outer.next() } else { at }),
            next: AtomicU64::new(1),
            pending: AtomicUsize::new(0),
        });
        *self = InnerPlace::Made(Arc::clone(&node));
        node
    }

    /// Where it is, and when it began.
    #[inline(always)]
    pub(crate) fn outer(&self) -> (&Place, u64) {
        match self {
            InnerPlace::Empty { outer, at } => (outer, *at),
            InnerPlace::Made(node) => (&node.outer, node.at.load(Ordering::Relaxed)),
        }
    }

    /// Whether nothing was ever entered in it.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, InnerPlace::Empty { .. })
    }

    /// It begins now, whenever it began until now.
    #[inline]
    pub(super) fn begin(&mut self, now: u64) {
        match self {
            InnerPlace::Empty { at, .. } => *at = now,
            InnerPlace::Made(node) => node.at.store(now, Ordering::Relaxed),
        }
    }

    /// Whether detached teardowns are pending inside.
    #[inline(always)]
    pub(crate) fn has_pending(&self) -> bool {
        self.made().is_some_and(|node| node.has_pending())
    }

    /// The place as it is known to others, if something was entered in it.
    #[inline(always)]
    pub(crate) fn made(&self) -> Option<&Arc<Node>> {
        match self {
            InnerPlace::Empty { .. } => None,
            InnerPlace::Made(node) => Some(node),
        }
    }
}

pin_project! {
    /// A future that is polled and dropped in a place of its own.
    pub(crate) struct InPlace<F> {
        place: InnerPlace,
        // `None` at its end.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for InPlace<F> {
        #[inline(always)]
        fn drop(this: Pin<&mut Self>) {
            this.discard();
        }
    }
}

impl<F> InPlace<F> {
    #[inline(always)]
    pub(crate) fn new(place: InnerPlace, future: F) -> Self {
        let future = Some(future);
        InPlace { place, future }
    }

    /// Drops the future.
    #[inline(always)]
    pub(crate) fn discard(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.future.is_some() {
            this.place.run(|| this.future.set(None));
        }
    }

    #[inline(always)]
    pub(crate) fn place(&self) -> &InnerPlace {
        &self.place
    }
}

impl<F: Future> Future for InPlace<F> {
    type Output = F::Output;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        this.place.run(|| match this.future.as_mut().as_pin_mut() {
            None => Poll::Pending,
            Some(future) => future.poll(cx).map(|output| {
                this.future.set(None);
                output
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn outermost() -> Place {
        Place::Thread(7)
    }

    #[test]
    fn numbers_rise_and_are_those_of_one_counter_in_256() {
        let mut number = Number::default();
        number.write(&[1, 2]);
        assert_eq!(number.finish(), 0x0102);
        number.write(&[1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(number.finish(), 0x0102 ^ (1 << 56));
        number.write(&[0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(number.finish(), 0x0100 ^ (1 << 56));
        for number in [0, 255, 256, u64::MAX] {
            let (first, second) = (next_of(number), next_of(number));
            assert!(0 < first && first < second);
        }
        let place = Place::Thread(3);
        let (first, second) = (place.next(), place.next());
        assert!(0 < first && first < second);
        let inner = InnerPlace::of(outermost(), 5).place();
        assert_eq!((inner.next(), inner.next()), (1, 2));
        assert_eq!(inner.member(4).next(), 1);
    }

    #[tokio::test]
    async fn the_current_place_is_that_of_the_task() {
        for _ in 0..3 {
            let numbers = tokio::spawn(async {
                let id = task::id();
                assert!(matches!(Place::current(), Place::Task(current) if current == id));
                (number_of(id).to_string(), id.to_string())
            });
            let (number, id) = numbers.await.unwrap();
            assert_eq!(number, id);
        }

        let mut place = InnerPlace::of(outermost(), 5);
        let key = place.place().key();
        assert_eq!(place.run(|| Place::current().key()), key);
        let other = tokio::spawn(async move {
            place.run(|| {
                place_of_another_task(key);
                Place::current().key()
            })
        });
        assert_eq!(other.await.unwrap(), key);
    }

    /// What is polled in another task is in no place of this one.
    fn place_of_another_task(key: Key) {
        let local = task::LocalSet::new();
        let other = local.spawn_local(async { Place::current().key() });
        let mut other = std::pin::pin!(async move {
            local.await;
            other.await.unwrap()
        });
        let polled = other.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(other) if other != key));
    }

    #[test]
    fn a_place_is_told_from_its_members_and_has_its_way_out() {
        let mut inner = InnerPlace::of(outermost(), 5);
        let place = inner.place();
        let Key::Inner(address, 0) = place.key() else {
            panic!("{place:?}");
        };
        let (first, second) = (place.member(0), place.member(1));
        assert_eq!(first.key(), Key::Inner(address, 1));
        assert_eq!(second.key(), Key::Inner(address, 2));
        assert_eq!(outermost().member(3).key(), Key::Thread(7));

        let outer = (Key::Thread(7), 5);
        assert_eq!(outermost().path(5), [outer]);
        assert_eq!(place.path(3), [(place.key(), 3), outer]);
        let group = (place.key(), WITH_ALL_OTHERS);
        assert_eq!(first.path(3), [(first.key(), 3), group, outer]);
        inner.begin(6);
        assert_eq!(place.path(3)[1], (Key::Thread(7), 6));
        assert_eq!(inner.outer().1, 6);
    }

    #[test]
    fn a_place_begins_when_it_is_first_entered_unless_it_has_begun() {
        let mut begun = InnerPlace::of(outermost(), 5);
        assert!(begun.is_empty());
        begun.place();
        assert!(!begun.is_empty());
        assert_eq!(begun.outer().1, 5);
        let mut first = InnerPlace::of(outermost(), 0);
        first.place();
        let mut second = InnerPlace::of(outermost(), 0);
        second.place();
        assert!(0 < first.outer().1 && first.outer().1 < second.outer().1);
        assert!(first.made().is_some());
    }

    #[test]
    fn what_is_pending_is_pending_in_all_places_around_it() {
        let mut outer = InnerPlace::of(outermost(), 1);
        let mut inner = InnerPlace::of(outer.place(), 1);
        let member = inner.place().member(2);
        assert!(!inner.has_pending() && !outer.has_pending());
        outer.place().add_pending();
        assert!(!inner.has_pending() && outer.has_pending());
        member.add_pending();
        outer.place().remove_pending();
        assert!(inner.has_pending() && outer.has_pending());
        member.remove_pending();
        assert!(!inner.has_pending() && !outer.has_pending());
        assert!(!InnerPlace::of(outermost(), 1).has_pending());
    }

    #[test]
    fn a_long_way_in_is_left_without_a_long_stack() {
        let mut place = outermost();
        for _ in 0..1_000_000 {
            place = InnerPlace::of(place, 1).place();
        }
        drop(place);
    }
}
