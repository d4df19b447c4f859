//! Contexts, guards and deferred futures of any type, left in the opposite order as one unit.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{self, Poll};

use sync_wrapper::SyncWrapper;
use tokio::runtime::Handle;

use super::frame::{Frame, never_yielded};
use super::futures::{Entered, Entering, catch};
use super::{Context, Exit, Guard, Leave, Return};
use crate::teardown::{self, TeardownError};

type BoxError = Box<dyn Error + Send + Sync>;
type Leaving = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Declared = Result<Members, ExitErrors>;

struct Member {
    name: &'static str,
    leave: SyncWrapper<Box<dyn FnOnce(Exit) -> Leaving + Send>>,
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

    /// Takes over the duty to tear `guard` down.
    pub fn push<R>(&mut self, guard: Guard<R>)
    where
        R: Return<Value: Send, Body: Ending + Send> + 'static,
    {
        let mut entered = guard.0;
        let runtime = entered.runtime();
        let name = entered.name();
        self.add(name, runtime, |exit| {
            let leave: Leave<R> = Leave(entered.leave(exit));
            Box::pin(async move { leave.await.end() })
        });
    }

    /// Runs `future` when its turn comes. Its output is `()` or a `Result`.
    pub fn defer<F>(&mut self, future: F)
    where
        F: Future<Output: Ending> + Send + 'static,
    {
        self.add("deferred future", None, |_| {
            Box::pin(async move { future.await.end() })
        });
    }

    fn add(
        &mut self,
        name: &'static str,
        runtime: Option<Handle>,
        leave: impl FnOnce(Exit) -> Leaving + Send + 'static,
    ) {
        let guard = &mut self.guard;
        // A stack that was made outside a runtime is torn down where its members are.
        guard.adopt(|| runtime.or_else(|| Handle::try_current().ok()));
        guard.value_mut().0.push(Member {
            name,
            leave: SyncWrapper::new(Box::new(leave)),
        });
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

    /// Like [`exit`](Self::exit), with another reason for leaving.
    pub fn exit_with(
        mut self,
        exit: Exit,
    ) -> impl Future<Output = Result<(), ExitErrors>> + Send + use<> {
        let settles = !exit.is_success();
        let leaving = self.guard.take().leave(exit);
        Leave(if settles { leaving.settle() } else { leaving })
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
        match catch(async { member.leave.into_inner()(exit).await }).await {
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
                error: error.to_string(),
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
            write!(f, "{separator}the teardown of `{name}` failed: {error}")?;
        }
        Ok(())
    }
}

impl Error for ExitErrors {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .first()
            .map(|(_, error)| &**error as &(dyn Error + 'static))
    }
}
