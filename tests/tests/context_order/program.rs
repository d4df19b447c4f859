//! Programs that enter, leave and drop contexts as they are told: in tasks, in the bodies of `with`, in contexts' own
//! functions, in tasks of scopes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aioxide::{Exit, ExitStack, Guard, Scope, actxmgr, group, scope};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

use crate::model::{Id, OrderId, SpotId};

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a spot is told to do. What takes its time goes on beside all else that is polled there, and can be cut by its
/// `OrderId`. A context comes with the spot of its teardown.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Enters a context, and gives its guard away.
    Hold(Id, SpotId),
    /// Runs the body of a `with` in a spot of its own.
    With(Id, SpotId, SpotId),
    /// Runs a setup in a spot of its own, and gives the guard away.
    Setup(Id, SpotId, SpotId),
    /// Enters a group, and gives its guard away; or its members' guards, and exits what is left.
    Group(Id, Vec<(Id, SpotId)>, bool),
    /// Fills a stack with contexts, and with guards of others.
    Stack(Id, Vec<(Id, SpotId)>, Vec<Id>),
    Scope(Id),
    /// A task of a scope.
    Spawn(Id, SpotId),
    /// A task whose handle is dropped.
    Task(SpotId),
    /// In a task of a `LocalSet` that is polled here, enters some whose guards are given away, and some that are dropped
    /// with the set.
    Local(Vec<(Id, SpotId)>, Vec<(Id, SpotId)>),
    /// Blocks on another runtime, where a task enters some and gives their guards away.
    Nested(Vec<(Id, SpotId)>),
    Settle,
    Drop(Id),
    Exit(Id, bool),
    /// Drops what was ordered.
    Cut(OrderId),
    /// Comes to its end, in success or failure.
    End(bool),
}

pub(crate) enum Held {
    One(Guard<io::Result<()>>),
    Group(Guard<io::Result<Vec<Guard<io::Result<()>>>>>),
    Stack(ExitStack),
    Scope(Guard<Result<Scope<io::Error>, io::Error>>),
}

/// What was dropped, in the order in which it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cut {
    Order(OrderId),
    Task(SpotId),
}

#[derive(Default)]
struct Inner {
    orders: BTreeMap<SpotId, UnboundedSender<(OrderId, u8, Order)>>,
    unread: BTreeMap<SpotId, UnboundedReceiver<(OrderId, u8, Order)>>,
    held: BTreeMap<Id, Held>,
    scopes: BTreeMap<Id, Scope<io::Error>>,
    aborts: BTreeMap<SpotId, Box<dyn Fn() + Send>>,
    running: BTreeSet<Id>,
    done: BTreeSet<OrderId>,
    alive: BTreeSet<SpotId>,
    cuts: Vec<Cut>,
    /// How many orders were given, and how many have been begun.
    told: usize,
    begun: usize,
}

/// What is to be seen of a program after each step.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// Teardowns that run.
    pub(crate) running: BTreeSet<Id>,
    /// What has been awaited to its end.
    pub(crate) done: BTreeSet<OrderId>,
    /// Whose guards are held.
    pub(crate) held: BTreeSet<Id>,
    /// The spots that are there.
    pub(crate) alive: BTreeSet<SpotId>,
}

pub(crate) struct World {
    inner: Mutex<Inner>,
    /// Held while something is cut, so that nothing else is cut in between.
    cutting: Mutex<()>,
    nested: Option<Handle>,
}

impl World {
    pub(crate) fn new(nested: Option<Handle>) -> Arc<World> {
        Arc::new(World {
            inner: Mutex::default(),
            cutting: Mutex::default(),
            nested,
        })
    }

    pub(crate) fn nested(&self) -> Option<&Handle> {
        self.nested.as_ref()
    }

    fn with<T>(&self, of: impl FnOnce(&mut Inner) -> T) -> T {
        of(&mut self.inner.lock().unwrap())
    }

    pub(crate) fn tell(&self, spot: SpotId, id: OrderId, how: u8, order: Order) {
        self.with(|inner| {
            let (sender, receiver) = unbounded_channel();
            if !inner.orders.contains_key(&spot) {
                inner.unread.insert(spot, receiver);
            }
            let sender = inner.orders.entry(spot).or_insert(sender);
            inner.told += 1;
            let _ = sender.send((id, how, order));
        });
    }

    pub(crate) fn abort(&self, task: SpotId) {
        self.with(|inner| inner.aborts[&task]());
    }

    pub(crate) fn drop_held(&self, id: Id) {
        drop(self.take(id));
    }

    /// Whether all that was told has been begun, so that what it waits for is settled.
    pub(crate) fn has_begun_all(&self) -> bool {
        self.with(|inner| inner.told == inner.begun)
    }

    fn begun(&self) {
        self.with(|inner| inner.begun += 1);
    }

    pub(crate) fn cuts(&self) -> Vec<Cut> {
        self.with(|inner| inner.cuts.clone())
    }

    pub(crate) fn seen(&self) -> Seen {
        self.with(|inner| Seen {
            running: inner.running.clone(),
            done: inner.done.clone(),
            held: inner.held.keys().copied().collect(),
            alive: inner.alive.clone(),
        })
    }

    fn take(&self, id: Id) -> Held {
        self.with(|inner| inner.held.remove(&id).expect("it is held"))
    }

    fn hold(&self, id: Id, held: Held) {
        self.with(|inner| drop(inner.held.insert(id, held)));
    }

    fn done(&self, order: OrderId) {
        self.with(|inner| inner.done.insert(order));
    }

    fn live(self: &Arc<Self>, spot: SpotId) -> Live {
        let orders = self.with(|inner| {
            inner.alive.insert(spot);
            let (sender, receiver) = unbounded_channel();
            match inner.unread.remove(&spot) {
                Some(receiver) => receiver,
                None => {
                    inner.orders.insert(spot, sender);
                    receiver
                }
            }
        });
        Live {
            world: Arc::clone(self),
            spot,
            orders,
            children: Vec::new(),
        }
    }

    /// The future of a task.
    pub(crate) fn task(self: &Arc<Self>, spot: SpotId) -> Task {
        Task(Some(self.live(spot)))
    }

    pub(crate) fn start(self: &Arc<Self>, spot: SpotId) {
        let task = tokio::spawn(self.task(spot)).abort_handle();
        self.with(|inner| inner.aborts.insert(spot, Box::new(move || task.abort())));
    }
}

/// Does what it is told, until it is told to end. What is polled in it is dropped in the order in which it began.
pub(crate) struct Live {
    world: Arc<World>,
    spot: SpotId,
    orders: UnboundedReceiver<(OrderId, u8, Order)>,
    children: Vec<(OrderId, BoxFuture)>,
}

impl Future for Live {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        loop {
            this.children
                .retain_mut(|(_, child)| child.as_mut().poll(cx).is_pending());
            match this.orders.poll_recv(cx) {
                Poll::Pending | Poll::Ready(None) => return Poll::Pending,
                Poll::Ready(Some((_, _, Order::End(success)))) => {
                    assert!(this.children.is_empty());
                    this.world.begun();
                    return Poll::Ready(success);
                }
                Poll::Ready(Some((_, _, Order::Cut(id)))) => {
                    let at = this.children.iter().position(|(child, _)| *child == id);
                    let (_, child) = this.children.remove(at.expect("it is there"));
                    let _cutting = this.world.cutting.lock().unwrap();
                    this.world.with(|inner| inner.cuts.push(Cut::Order(id)));
                    drop(child);
                    this.world.begun();
                }
                Poll::Ready(Some((id, how, order))) => {
                    let child = obey(Arc::clone(&this.world), id, order);
                    let mut child = combined(how, child);
                    if child.as_mut().poll(cx).is_pending() {
                        this.children.push((id, child));
                    }
                    this.world.begun();
                }
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for child in std::mem::take(&mut self.children) {
            drop(child);
        }
        self.world.with(|inner| inner.alive.remove(&self.spot));
    }
}

/// A spot that is a task of its own, and is aborted as such.
pub(crate) struct Task(Option<Live>);

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(live) = &mut self.0 else {
            return Poll::Ready(());
        };
        Pin::new(live).poll(cx).map(|_| self.0 = None)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(live) = self.0.take() {
            let world = Arc::clone(&live.world);
            let _cutting = world.cutting.lock().unwrap();
            world.with(|inner| inner.cuts.push(Cut::Task(live.spot)));
            drop(live);
        }
    }
}

/// A context that does what it is told in its setup, if that has a spot, and in its teardown.
#[actxmgr]
async fn told(
    world: Arc<World>,
    id: Id,
    setup: Option<SpotId>,
    teardown: SpotId,
) -> io::Result<()> {
    if let Some(setup) = setup
        && !world.live(setup).await
    {
        return Err(io::Error::other("refused"));
    }
    yield_().await;
    world.with(|inner| inner.running.insert(id));
    world.live(teardown).await;
    world.with(|inner| inner.running.remove(&id));
    Ok(())
}

async fn enter_all(world: &Arc<World>, contexts: Vec<(Id, SpotId)>) {
    for (id, teardown) in contexts {
        let guard = told(Arc::clone(world), id, None, teardown).await.unwrap();
        world.hold(id, Held::One(guard));
    }
}

fn obey(world: Arc<World>, order: OrderId, what: Order) -> BoxFuture {
    match what {
        Order::Hold(id, teardown) => {
            Box::pin(async move { enter_all(&world, vec![(id, teardown)]).await })
        }
        Order::With(id, teardown, body) => Box::pin(async move {
            let context = told(Arc::clone(&world), id, None, teardown);
            let body = async |_: &mut ()| {
                world.live(body).await;
                Ok::<_, io::Error>(())
            };
            context.with(body).await.unwrap();
            world.done(order);
        }),
        Order::Setup(id, teardown, setup) => Box::pin(async move {
            if let Ok(guard) = told(Arc::clone(&world), id, Some(setup), teardown).await {
                world.hold(id, Held::One(guard));
            }
        }),
        Order::Group(id, members, empties) => Box::pin(async move {
            let own = members.iter().copied();
            let contexts = own.map(|(id, teardown)| told(Arc::clone(&world), id, None, teardown));
            let mut guards = group(contexts.collect::<Vec<_>>()).await.unwrap();
            if empties {
                for ((id, _), guard) in members.into_iter().zip(guards.drain(..)) {
                    world.hold(id, Held::One(guard));
                }
                guards.exit().await.unwrap();
            } else {
                world.hold(id, Held::Group(guards));
            }
        }),
        Order::Stack(id, members, pushed) => Box::pin(async move {
            let mut stack = ExitStack::new();
            for (id, teardown) in members {
                let context = told(Arc::clone(&world), id, None, teardown);
                stack.enter(context).await.unwrap();
            }
            for id in pushed {
                match world.take(id) {
                    Held::One(guard) => drop(stack.push(guard)),
                    Held::Group(_) | Held::Stack(_) | Held::Scope(_) => unreachable!(),
                }
            }
            world.hold(id, Held::Stack(stack));
        }),
        Order::Scope(id) => Box::pin(async move {
            let guard = scope::<io::Error>().await.unwrap();
            world.with(|inner| inner.scopes.insert(id, (*guard).clone()));
            world.hold(id, Held::Scope(guard));
        }),
        Order::Spawn(id, spot) => Box::pin(async move {
            let scope = world.with(|inner| inner.scopes[&id].clone());
            let task = scope.spawn(world.task(spot));
            world.with(|inner| inner.aborts.insert(spot, Box::new(move || task.abort())));
        }),
        Order::Task(spot) => Box::pin(async move { world.start(spot) }),
        Order::Local(held, dropped) => Box::pin(async move { local(world, held, dropped) }),
        Order::Nested(held) => Box::pin(async move {
            let nested = world.nested.clone().expect("there is one");
            let entering = async move { enter_all(&world, held).await };
            tokio::task::block_in_place(|| {
                nested.block_on(async { tokio::spawn(entering).await.unwrap() });
            });
        }),
        Order::Settle => Box::pin(async move {
            aioxide::settle().await;
            world.done(order);
        }),
        Order::Drop(id) => Box::pin(async move { world.drop_held(id) }),
        Order::Exit(id, success) => Box::pin(async move {
            let exit = if success {
                Exit::Completed
            } else {
                Exit::Cancelled
            };
            let failed = (!success).then(|| io::Error::other("failed"));
            // Both ways to say so.
            match world.take(id) {
                Held::One(guard) if id % 2 == 0 => {
                    let ended = guard.exit_as(failed.map_or(Ok(()), Err)).await;
                    assert_eq!(ended.is_ok(), success);
                }
                Held::One(guard) => guard.exit_with(exit).await.unwrap(),
                Held::Group(guard) => guard.exit_with(exit).await.unwrap(),
                Held::Stack(stack) => stack.exit_with(exit).await.unwrap(),
                Held::Scope(guard) => guard.exit_with(exit).await.unwrap(),
            }
            world.done(order);
        }),
        Order::Cut(_) | Order::End(_) => unreachable!("a spot does so itself"),
    }
}

/// Nothing suspends for others here: a few polls of the set are enough for its task.
fn local(world: Arc<World>, held: Vec<(Id, SpotId)>, dropped: Vec<(Id, SpotId)>) {
    let set = LocalSet::new();
    set.spawn_local(async move {
        enter_all(&world, held).await;
        let mut guards = Vec::new();
        for (id, teardown) in dropped {
            guards.push(told(Arc::clone(&world), id, None, teardown).await.unwrap());
        }
        pending::<()>().await;
    });
    let mut set = std::pin::pin!(set);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..10 {
        assert!(set.as_mut().poll(&mut cx).is_pending());
    }
}

/// Whatever combines futures leaves them where they are.
fn combined(way: u8, future: BoxFuture) -> BoxFuture {
    match way % 7 {
        0 => future,
        1 => Box::pin(async {
            tokio::join!(yield_now(), future);
        }),
        2 => Box::pin(async { drop(join_all([future]).await) }),
        3 => Box::pin(async {
            tokio::select! {
                () = future => {}
                () = pending() => {}
            }
        }),
        4 => Box::pin(async {
            let mut all = FuturesUnordered::from_iter([future]);
            while all.next().await.is_some() {}
        }),
        5 => Box::pin(stream::iter([future]).buffer_unordered(4).collect()),
        _ => Box::pin(async { timeout(Duration::from_secs(3_600), future).await.unwrap() }),
    }
}
