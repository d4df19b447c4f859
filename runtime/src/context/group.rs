//! Many contexts entered and left together, as one context.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{self, Poll};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;

use super::fault::{Fault, Left, Panic};
use super::frame::{Frame, never_yielded};
use super::futures::{Entered, Entering, Leaving};
use super::returns::{Fallible, Kind, Never};
use super::{Context, Exit, Guard, Outcome, Return};
use crate::panic;
use crate::teardown::{self, Place, TeardownError};

/// Makes one context of many: it enters all of them concurrently, yields their guards, and exits all of them
/// concurrently with its own exit.
///
/// `contexts` is an iterator of contexts of one type, which yields a `Vec` of guards in the same order, or a
/// tuple of up to eight, which yields a tuple. The fallible members of a tuple share their error type;
/// [`Always`](super::Always) members mix in. The group is fallible if a member is.
///
/// If a member fails to enter, or the caller is dropped while entering, all members that had entered are torn
/// down concurrently with [`Exit::Cancelled`], before the first error comes back; those still entering are
/// cancelled. Every exit runs whatever the others do: the first error in the order of the members is
/// returned, the others are [reported](crate::teardown), and a panic goes on when all have ended. Members
/// that are dropped never wait for each other. Guards that are taken out of the group are their taker's.
///
/// Compare `join_all` over hooks, which loses the teardown of those that had entered.
///
/// ```
/// use std::io;
/// use aioxide::{actxmgr, group};
///
/// #[actxmgr]
/// async fn connection(shard: u32) -> io::Result<String> {
///     let (conn, exit) = yield_(format!("shard {shard}")).await;
///     println!("{conn} closed: {exit}");
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> io::Result<()> {
/// let shards = group((0..4).map(connection)).await?;
/// assert_eq!(*shards[3], "shard 3");
/// shards.exit().await?;
///
/// group((connection(0), connection(1)))
///     .with(async |(from, to)| Ok::<_, io::Error>(assert_ne!(**from, **to)))
///     .await
/// # }
/// ```
pub fn group<S, G: Group<S>>(contexts: G) -> Context<G::Return> {
    contexts.into_context()
}

/// What [`group`] takes: iterators and tuples of contexts. `S` tells them apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` isn't a group of contexts",
    label = "neither an iterator nor a tuple of contexts",
    note = "a group is an iterator of contexts of one type, or a tuple of two to eight contexts whose fallible members share one error type"
)]
pub trait Group<S> {
    /// The declared return type of the group.
    type Return: Return;

    #[doc(hidden)]
    fn into_context(self) -> Context<Self::Return>;
}

const NAME: &str = "group";

/// A member of a group, in a place of its own inside that of the group's function.
fn placed<R: Return>(
    group: &Place,
    index: usize,
    member: Entering<'static, R>,
) -> Entering<'static, R> {
    member.set(|meta| meta.enter_in(group.member(index)))
}

fn placed_all<R: Return>(members: Vec<Entering<'static, R>>) -> Vec<Entering<'static, R>> {
    let place = Place::current();
    let members = members.into_iter().enumerate();
    members
        .map(|(index, member)| placed(&place, index, member))
        .collect()
}

/// Marks the group of an iterator.
#[doc(hidden)]
pub struct Iter<R>(R);

type Error<R> = <<R as Return>::Kind as Kind>::Error;

impl<R, I> Group<Iter<R>> for I
where
    I: IntoIterator<Item = Context<R>>,
    R: Return<Value: Send, Body: Outcome + Send> + 'static,
    R::Kind: Kind<Error: Send> + 'static,
{
    type Return = <R::Kind as Kind>::Declared<Vec<Guard<R>>>;

    fn into_context(self) -> Context<Self::Return> {
        let members: Vec<Entering<'static, R>> =
            self.into_iter().map(|context| context.0).collect();
        Context(Entering::new(Frame::<'static, Self::Return>::owned(
            NAME,
            |yielder| async move {
                match enter_all(placed_all(members)).await {
                    Err(error) => <R::Kind as Kind>::body(Err(error)),
                    Ok(guards) => {
                        let (guards, exit) = yielder.give(guards).await;
                        let leaving = guards.into_iter().map(|guard| guard.0.leave(exit.clone()));
                        <R::Kind as Kind>::body(leave_all::<R>(leaving.collect()).await.result())
                    }
                }
            },
        )))
    }
}

/// A member of a group at work, which tells its place when it is done.
struct Indexed<F> {
    index: usize,
    future: F,
}

impl<F: Future + Unpin> Future for Indexed<F> {
    type Output = (usize, F::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        Pin::new(&mut self.future)
            .poll(cx)
            .map(|output| (index, output))
    }
}

/// Runs all members concurrently. Those that are ready at once, in most groups nearly all, cost no more than
/// one poll; only the others are tracked one by one. `done` tells whether to go on.
async fn run_all<F: Future + Unpin>(
    members: Vec<F>,
    mut done: impl FnMut(usize, F::Output) -> bool,
) {
    let mut members = members.into_iter().enumerate();
    let mut waiting = FuturesUnordered::new();
    let mut go_on = true;
    poll_fn(|cx| {
        for (index, mut future) in members.by_ref() {
            match Pin::new(&mut future).poll(cx) {
                Poll::Ready(output) => go_on &= done(index, output),
                Poll::Pending => waiting.push(Indexed { index, future }),
            }
            if !go_on {
                return Poll::Ready(());
            }
        }
        // All that are ready by now, so that the first one in order can be told among those that failed.
        loop {
            match Pin::new(&mut waiting).poll_next(cx) {
                Poll::Ready(Some((index, output))) => go_on &= done(index, output),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if go_on => return Poll::Pending,
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// A member that failed to enter.
struct Refused<E> {
    index: usize,
    name: &'static str,
    text: String,
    error: E,
}

impl<E> Refused<E> {
    /// Where another member's error comes back.
    fn log(self) {
        let Refused { name, text, .. } = self;
        panic::guarded(|| {
            tracing::error!(
                context = name,
                "failed to enter, as did another member of its group: {text}"
            );
        });
    }
}

async fn enter_all<R>(members: Vec<Entering<'static, R>>) -> Result<Vec<Guard<R>>, Error<R>>
where
    R: Return<Body: Outcome>,
{
    // In the order in which they enter: dropped so, none has to be looked for among those before it.
    let mut entered: Vec<(usize, Entered<'static, R>)> = Vec::with_capacity(members.len());
    let mut refused: Option<Refused<Error<R>>> = None;
    run_all(members, |index, result| {
        match result {
            Ok(member) => entered.push((index, member)),
            Err((name, body)) => {
                let text = body.failure().unwrap_or_default();
                let Err(error) = R::Kind::result(body) else {
                    never_yielded(name)
                };
                let new = Refused {
                    index,
                    name,
                    text,
                    error,
                };
                let later = match refused.take() {
                    Some(first) if first.index < index => {
                        refused = Some(first);
                        Some(new)
                    }
                    later => {
                        refused = Some(new);
                        later
                    }
                };
                if let Some(later) = later {
                    later.log();
                }
            }
        }
        refused.is_none()
    })
    .await;
    entered.sort_by_key(|&(index, _)| index);
    let entered = entered.into_iter().map(|(_, member)| member);
    let Some(Refused { error, .. }) = refused else {
        return Ok(entered.map(Guard).collect());
    };
    let leaving = entered
        .map(|member| member.leave(Exit::Cancelled))
        .collect();
    leave_all::<R>(leaving).await.report();
    Err(error)
}

async fn leave_all<R: Return>(members: Vec<Leaving<'static, R>>) -> Failures<R::Kind> {
    let mut failures = Failures::new();
    run_all(members, |index, left| {
        failures.add(index, left, |error: Error<R>| error);
        true
    })
    .await;
    failures
}

/// What went wrong while the members left.
struct Failures<K: Kind> {
    first: Option<(usize, TeardownError, K::Error)>,
    panic: Option<Panic>,
}

impl<K: Kind> Failures<K> {
    fn new() -> Self {
        Failures {
            first: None,
            panic: None,
        }
    }

    /// Keeps the first error in order and the first panic; reports all others.
    fn add<R: Return>(
        &mut self,
        index: usize,
        left: Left<R>,
        lift: impl FnOnce(Error<R>) -> K::Error,
    ) {
        let Err(fault) = left else { return };
        let (report, body) = match *fault {
            Fault::Failed(failed) => (failed.error(), failed.body),
            Fault::Late(late) => (late.error(), late.into_body()),
            Fault::Panicked(panic) if self.panic.is_none() => {
                self.panic = Some(panic);
                return;
            }
            Fault::Panicked(panic) => return panic.report(),
        };
        let Err(error) = R::Kind::result(body) else {
            return;
        };
        let earlier = match &self.first {
            Some((first, ..)) if *first < index => Some(report),
            _ => {
                let earlier = self.first.replace((index, report, lift(error)));
                earlier.map(|(_, report, _)| report)
            }
        };
        if let Some(report) = earlier {
            teardown::report(&report);
        }
    }

    fn result(self) -> Result<(), K::Error> {
        match (self.panic, self.first) {
            (Some(panic), first) => {
                if let Some((_, report, _)) = first {
                    teardown::report(&report);
                }
                panic.resume()
            }
            (None, Some((_, _, error))) => Err(error),
            (None, None) => Ok(()),
        }
    }

    /// When the caller gets an error of another kind.
    fn report(self) {
        if let Some((_, report, _)) = self.first {
            teardown::report(&report);
        }
        if let Some(panic) = self.panic {
            panic.report();
        }
    }
}

/// The kind of a group with members of kinds `Self` and `K`.
#[doc(hidden)]
pub trait And<K> {
    type Out: Kind;
}

impl And<Never> for Never {
    type Out = Never;
}
impl<E> And<Fallible<E>> for Never {
    type Out = Fallible<E>;
}
impl<E> And<Never> for Fallible<E> {
    type Out = Fallible<E>;
}
impl<E> And<Fallible<E>> for Fallible<E> {
    type Out = Fallible<E>;
}

/// The kind of a group with members of these kinds, each paired with the rest.
#[doc(hidden)]
pub trait Common {
    type Out: Kind;
}

impl Common for () {
    type Out = Never;
}
impl<K: And<Rest::Out>, Rest: Common> Common for (K, Rest) {
    type Out = K::Out;
}

/// An error of a member as the error of its group.
#[doc(hidden)]
pub trait Lift<K: Kind>: Kind {
    fn lift(error: Self::Error) -> K::Error;
}

impl<K: Kind> Lift<K> for Never {
    fn lift(error: Infallible) -> K::Error {
        match error {}
    }
}
impl<E> Lift<Fallible<E>> for Fallible<E> {
    fn lift(error: E) -> E {
        error
    }
}

/// A member of a tuple on its way in.
enum Member<R: Return> {
    Entering(Entering<'static, R>),
    Entered(Entered<'static, R>),
    Gone,
}

impl<R: Return> Member<R> {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error<R>>> {
        let Member::Entering(entering) = self else {
            return Poll::Ready(Ok(()));
        };
        match entering.poll_entered(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(entered)) => {
                *self = Member::Entered(entered);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err((name, body))) => {
                *self = Member::Gone;
                match R::Kind::result(body) {
                    Ok(()) => never_yielded(name),
                    Err(error) => Poll::Ready(Err(error)),
                }
            }
        }
    }

    fn guard(self) -> Option<Guard<R>> {
        match self {
            Member::Entered(entered) => Some(Guard(entered)),
            Member::Entering(_) | Member::Gone => None,
        }
    }
}

/// A member of a tuple on its way out; `None` when it is out.
struct TupleLeaver<R: Return>(Option<Leaving<'static, R>>);

impl<R: Return> TupleLeaver<R> {
    fn new(guard: Option<Guard<R>>, exit: Exit) -> Self {
        TupleLeaver(guard.map(|guard| guard.0.leave(exit)))
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Left<R>>> {
        let Some(leaving) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(leaving).poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled.map(Some)
    }
}

/// Marks the group of a tuple.
#[doc(hidden)]
pub struct Tuple<T>(T);

macro_rules! pairs {
    () => { () };
    ($head:ident $($tail:ident)*) => { ($head::Kind, pairs!($($tail)*)) };
}

macro_rules! tuple {
    ($($R:ident $member:ident $index:literal),+) => {
        impl<$($R,)+ K> Group<Tuple<($($R,)+)>> for ($(Context<$R>,)+)
        where
            $($R: Return<Value: Send, Body: Outcome + Send, Kind: Lift<K>> + 'static,)+
            pairs!($($R)+): Common<Out = K>,
            K: Kind<Body: Outcome, Error: Send> + 'static,
        {
            type Return = K::Declared<($(Guard<$R>,)+)>;

            fn into_context(self) -> Context<Self::Return> {
                let ($($member,)+) = self;
                Context(Entering::new(Frame::<'static, Self::Return>::owned(NAME, |yielder| async move {
                    let ($(mut $member,)+) = {
                        let place = Place::current();
                        ($(Member::Entering(placed(&place, $index, $member.0)),)+)
                    };
                    let refused = poll_fn(|cx| {
                        let mut waiting = false;
                        $(match $member.poll(cx) {
                            Poll::Ready(Ok(())) => {}
                            Poll::Ready(Err(error)) => return Poll::Ready(Some(<$R::Kind as Lift<K>>::lift(error))),
                            Poll::Pending => waiting = true,
                        })+
                        if waiting { Poll::Pending } else { Poll::Ready(None) }
                    })
                    .await;
                    let ($($member,)+) = ($($member.guard(),)+);
                    let (exit, refused, $($member,)+) = match (refused, $($member,)+) {
                        (None, $(Some($member),)+) => {
                            let (($($member,)+), exit) = yielder.give(($($member,)+)).await;
                            (exit, None, $(Some($member),)+)
                        }
                        (refused, $($member,)+) => (Exit::Cancelled, refused, $($member,)+),
                    };
                    let ($(mut $member,)+) = ($(TupleLeaver::new($member, exit.clone()),)+);
                    let mut failures = Failures::<K>::new();
                    poll_fn(|cx| {
                        let mut waiting = false;
                        $(match $member.poll(cx) {
                            Poll::Ready(Some(left)) => failures.add($index, left, <$R::Kind as Lift<K>>::lift),
                            Poll::Ready(None) => {}
                            Poll::Pending => waiting = true,
                        })+
                        if waiting { Poll::Pending } else { Poll::Ready(()) }
                    })
                    .await;
                    K::body(match refused {
                        None => failures.result(),
                        Some(error) => {
                            failures.report();
                            Err(error)
                        }
                    })
                })))
            }
        }
    };
}

tuple!(A a 0);
tuple!(A a 0, B b 1);
tuple!(A a 0, B b 1, C c 2);
tuple!(A a 0, B b 1, C c 2, D d 3);
tuple!(A a 0, B b 1, C c 2, D d 3, E e 4);
tuple!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5);
tuple!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6);
tuple!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7);
