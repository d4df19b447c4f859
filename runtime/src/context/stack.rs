//! Contexts, guards and deferred futures of any type, left in the opposite order as one unit.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};

use futures_util::FutureExt;
use sync_wrapper::SyncWrapper;
use tokio::runtime::Handle;

use super::fault::{after, report};
use super::frame::{Frame, never_yielded};
use super::futures::{Entered, Entering, Inside};
use super::{Context, Exit, Guard, Leave, Return};
use crate::report::in_full;
use crate::teardown::{self, TeardownError};

type BoxError = Box<dyn Error + Send + Sync>;
type Leaving = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Declared = Result<Members, ExitErrors>;

struct Member {
    id: u64,
    name: &'static str,
    held: SyncWrapper<Box<dyn Held>>,
}

/// What a stack holds, whatever it is.
trait Held: Send {
    fn leave(self: Box<Self>, exit: Exit) -> Leaving;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<R> Held for Guard<R>
where
    R: Return<Value: Send, Body: Ending + Send> + 'static,
{
    fn leave(self: Box<Self>, exit: Exit) -> Leaving {
        let leave: Leave<R> = Leave(self.0.leave(exit));
        Box::pin(async move { leave.await.end() })
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

struct Deferred<F>(F);

impl<F> Held for Deferred<F>
where
    F: Future<Output: Ending> + Send + 'static,
{
    fn leave(self: Box<Self>, _: Exit) -> Leaving {
        Box::pin(async move { self.0.await.end() })
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.0)
    }
}

/// Names a member of an [`ExitStack`], an `M`, to [take](ExitStack::take) it out again.
pub struct MemberId<M> {
    id: u64,
    member: PhantomData<fn() -> M>,
}

impl<M> Clone for MemberId<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for MemberId<M> {}

impl<M> fmt::Debug for MemberId<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemberId").field(&self.id).finish()
    }
}

/// Those entered first come first.
struct Members(Vec<Member>);

impl Drop for Members {
    /// Left to themselves, inner go before outer too.
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// Contexts, guards and deferred futures that are added one by one and left in the opposite order, strictly
/// one after the other, as one unit: by [`exit`](ExitStack::exit), or detached when it is dropped.
///
/// For a number of contexts that is known only at run time, and for what a struct or a `Vec` of guards cannot
/// do: fields and elements drop first-entered first, and their teardowns do not wait for each other.
///
/// Modelled on Python's `contextlib.AsyncExitStack`, which loses what is left of it when it is cancelled.
///
/// ```
/// use std::{io, sync::Arc};
/// use aioxide::{ExitStack, actxmgr};
///
/// #[actxmgr]
/// async fn pool(name: &'static str) -> io::Result<Arc<str>> {
///     let (name, _exit) = yield_(name.into()).await;
///     println!("{name} closed");
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut stack = ExitStack::new();
/// let database = stack.enter(pool("database")).await?;
/// stack.defer(async { println!("between the two") });
/// let cache = pool("cache").await?;
/// stack.push(cache);
/// assert_eq!(&*database, "database");
/// stack.exit().await?; // cache, between the two, database
/// # Ok(()) }
/// ```
#[must_use = "a stack that is dropped at once tears all of it down at once; bind it to a variable"]
pub struct ExitStack {
    guard: Entered<'static, Declared>,
}

impl ExitStack {
    /// An empty stack.
    pub fn new() -> ExitStack {
        let frame = Frame::owned("ExitStack", |yielder| async move {
            let (members, exit) = yielder.give(Members(Vec::new())).await;
            leave(members, exit).await
        });
        let mut entering = Entering::new(frame);
        let mut cx = task::Context::from_waker(task::Waker::noop());
        match entering.poll_entered(&mut cx) {
            Poll::Ready(Ok(guard)) => ExitStack { guard },
            _ => unreachable!("the stack's own context yields at once"),
        }
    }

    /// Enters `context`, keeps its guard, and gives a clone of its value: of a pool or a handle, for example.
    /// Use [`push`](Self::push) for values that aren't `Clone`.
    ///
    /// # Errors
    ///
    /// What `context` fails to enter with; the stack is then as before.
    ///
    /// # Cancellation
    ///
    /// As of [`Context::enter`]; the stack is then as before.
    pub async fn enter<R>(&mut self, context: Context<R>) -> R::Entered<R::Value>
    where
        R: Return<Value: Clone + Send, Body: Ending + Send> + 'static,
    {
        let place = self.guard.place();
        let mut entering = context.0.set(|meta| meta.enter_in(place));
        let entered = poll_fn(|cx| entering.poll_entered(cx)).await;
        match entered {
            Ok(entered) => {
                let value = entered.value().clone();
                self.push(Guard(entered));
                R::entered(value)
            }
            Err((name, body)) => R::refused(body).unwrap_or_else(|| never_yielded(name)),
        }
    }

    /// Takes over the duty to tear `guard` down, until it is [taken](Self::take) out again.
    pub fn push<R>(&mut self, mut guard: Guard<R>) -> MemberId<Guard<R>>
    where
        R: Return<Value: Send, Body: Ending + Send> + 'static,
    {
        let runtime = guard.0.runtime();
        let name = guard.0.name();
        self.add(name, runtime, guard)
    }

    /// Runs `future` when its turn comes, unless it is [taken](Self::take) out before. Its output is `()` or a
    /// `Result`.
    pub fn defer<F>(&mut self, future: F) -> MemberId<F>
    where
        F: Future<Output: Ending> + Send + 'static,
    {
        self.add("deferred future", None, Deferred(future))
    }

    /// Takes a member out again: the guard, whose context is then the caller's to leave, or the deferred future,
    /// which then doesn't run. `None` if it is not, or no longer, in this stack.
    ///
    /// ```
    /// # use aioxide::{Always, ExitStack, actxmgr};
    /// #[actxmgr]
    /// async fn session(id: u32) -> Always<u32> {
    ///     yield_(id).await;
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let mut stack = ExitStack::new();
    /// let undo = stack.defer(async { println!("the order is undone") });
    /// let session = stack.push(session(7).await);
    /// let session = stack.take(session).unwrap(); // it outlives the stack
    /// drop(stack.take(undo));                     // the order stands
    /// stack.exit().await.unwrap();
    /// assert_eq!(*session, 7);
    /// session.exit().await;
    /// # }
    /// ```
    pub fn take<M: 'static>(&mut self, id: MemberId<M>) -> Option<M> {
        let members = &mut self.guard.value_mut().0;
        let at = members.iter().position(|member| member.id == id.id)?;
        let held = members.remove(at).held.into_inner().into_any();
        held.downcast().ok().map(|held| *held)
    }

    fn add<M>(
        &mut self,
        name: &'static str,
        runtime: Option<Handle>,
        held: impl Held + 'static,
    ) -> MemberId<M> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let guard = &mut self.guard;
        // A stack that was made outside a runtime is torn down where its members are.
        guard.adopt(|| runtime.or_else(|| Handle::try_current().ok()));
        guard.value_mut().0.push(Member {
            id,
            name,
            held: SyncWrapper::new(Box::new(held)),
        });
        MemberId {
            id,
            member: PhantomData,
        }
    }

    /// Leaves all members, the last one first, with [`Exit::Completed`].
    ///
    /// # Errors
    ///
    /// The errors of all members, in the order in which they were left.
    ///
    /// # Panics
    ///
    /// If a member does, once all have been left.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way or not awaited at all, the rest goes on, detached, in the same order.
    pub fn exit(self) -> impl Future<Output = Result<(), ExitErrors>> + Send + use<> {
        self.exit_with(Exit::Completed)
    }

    /// Like [`exit`](Self::exit), with another reason for leaving. With one that is no success, it first
    /// [settles](crate::settle) the place that it is awaited in.
    pub fn exit_with(
        self,
        exit: Exit,
    ) -> impl Future<Output = Result<(), ExitErrors>> + Send + use<> {
        Leave(self.leaving(exit))
    }

    fn leaving(mut self, exit: Exit) -> super::futures::Leaving<'static, Declared> {
        let settles = !exit.is_success();
        let leaving = self.guard.take().leave(exit);
        if settles { leaving.settle() } else { leaving }
    }

    /// Leaves all members with the reason that `result` gives, [`Exit::Completed`] or [`Exit::Failed`], and gives
    /// `result` back once all have been left. After an error it first [settles](crate::settle) the place that it is
    /// awaited in.
    ///
    /// # Errors
    ///
    /// The error in `result`; else those of the members. If both failed, those of the members are
    /// [reported](crate::teardown).
    ///
    /// # Panics
    ///
    /// If a member does and `result` is no error, once all have been left; a panic beside an error is reported.
    ///
    /// # Cancellation
    ///
    /// As of [`exit`](Self::exit).
    pub fn exit_as<U, B>(self, result: Result<U, B>) -> impl Future<Output = Result<U, B>>
    where
        B: From<ExitErrors> + fmt::Display,
    {
        let leaving = self.leaving(Exit::of(&result));
        async move { after::<Declared, _, _>(result, leaving.await, |left| Ok(left?)) }
    }

    /// Runs `body` with the stack, and leaves all members, whatever becomes of `body`.
    ///
    /// # Errors
    ///
    /// That of `body`, else those of the members. If both failed, those of the members are
    /// [reported](crate::teardown).
    ///
    /// # Panics
    ///
    /// If `body` does, once all members have been left with [`Exit::Panicked`]; if a member does.
    ///
    /// # Cancellation
    ///
    /// Dropped, the members are left like those of a stack that is dropped.
    ///
    /// ```
    /// # use aioxide::{ExitStack, actxmgr};
    /// # use std::io;
    /// #[actxmgr]
    /// async fn shard(number: u32) -> io::Result<u32> {
    ///     let (number, exit) = yield_(number).await;
    ///     println!("shard {number}: {exit}");
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let moved = ExitStack::new().with(async |stack| {
    ///     for number in 0..3 {
    ///         stack.enter(shard(number)).await?;
    ///     }
    ///     Err::<(), _>(io::Error::other("out of space"))   // all of them see it
    /// });
    /// assert!(moved.await.is_err());
    /// # }
    /// ```
    pub async fn with<U, B>(
        mut self,
        body: impl AsyncFnOnce(&mut ExitStack) -> Result<U, B>,
    ) -> Result<U, B>
    where
        B: From<ExitErrors> + fmt::Display,
    {
        let place = self.guard.beside();
        let (run, place) = Inside::new(place, body(&mut self)).await;
        let exit = match &run {
            Ok(result) => Exit::of(result),
            Err(_) => Exit::Panicked,
        };
        let mut guard = self.guard.take();
        guard.give_back(exit);
        let left = guard.left(place).await;
        match run {
            Ok(result) => after::<Declared, _, _>(result, left, |left| Ok(left?)),
            Err(panic) => {
                report::<Declared>(left);
                resume_unwind(panic)
            }
        }
    }

    /// Moves all members to a stack of their own. This one is then empty, and can be used on or dropped.
    ///
    /// For a setup in several steps: it collects them in a local stack, which undoes them if it fails half-way,
    /// and hands them over at its end.
    pub fn pop_all(&mut self) -> ExitStack {
        std::mem::take(self)
    }
}

impl Default for ExitStack {
    fn default() -> Self {
        ExitStack::new()
    }
}

impl fmt::Debug for ExitStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.guard.value().0.iter().map(|member| member.name);
        f.debug_tuple("ExitStack")
            .field(&members.collect::<Vec<_>>())
            .finish()
    }
}

impl Drop for ExitStack {
    fn drop(&mut self) {
        self.guard.discard_if(|members| members.0.is_empty());
    }
}

async fn leave(mut members: Members, exit: Exit) -> Result<(), ExitErrors> {
    let mut errors = Vec::new();
    let mut panicked = None;
    while let Some(member) = members.0.pop() {
        let exit = exit.clone();
        let name = member.name;
        let leaving = AssertUnwindSafe(async { member.held.into_inner().leave(exit).await });
        match leaving.catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => errors.push((name, error)),
            Err(panic) if panicked.is_none() => panicked = Some(panic),
            Err(panic) => teardown::report_panic(name, panic),
        }
    }
    if let Some(panic) = panicked {
        for (name, error) in errors {
            teardown::report(&TeardownError::Failed {
                name,
                error: in_full(&error),
            });
        }
        resume_unwind(panic);
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ExitErrors(errors))
    }
}

/// What the teardown of a member of an [`ExitStack`] ends in: `()`, or a `Result` whose error can be boxed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a member of an `ExitStack` can end in",
    label = "neither `()` nor a `Result<T, E>` with `E: Into<Box<dyn Error + Send + Sync>>`"
)]
pub trait Ending {
    #[doc(hidden)]
    fn end(self) -> Result<(), BoxError>;
}

impl Ending for () {
    fn end(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<T, E: Into<BoxError>> Ending for Result<T, E> {
    fn end(self) -> Result<(), BoxError> {
        self.map(drop).map_err(E::into)
    }
}

/// The errors of all members of an [`ExitStack`] whose teardown failed, in the order in which they were left.
#[derive(Debug)]
pub struct ExitErrors(Vec<(&'static str, BoxError)>);

impl ExitErrors {
    /// The errors, each with the name of its context's function. There is at least one.
    pub fn iter(
        &self,
    ) -> impl Iterator<Item = (&'static str, &(dyn Error + Send + Sync + 'static))> {
        self.0.iter().map(|(name, error)| (*name, &**error))
    }
}

impl IntoIterator for ExitErrors {
    type Item = (&'static str, BoxError);
    type IntoIter = std::vec::IntoIter<(&'static str, BoxError)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for ExitErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, error)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}the teardown of `{name}` failed: ")?;
            // With all causes, if that is wanted.
            fmt::Display::fmt(error, f)?;
        }
        Ok(())
    }
}

impl From<ExitErrors> for io::Error {
    fn from(errors: ExitErrors) -> Self {
        io::Error::other(errors)
    }
}

impl Error for ExitErrors {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .first()
            .map(|(_, error)| &**error as &(dyn Error + 'static))
    }
}
