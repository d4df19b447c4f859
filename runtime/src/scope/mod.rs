//! Scopes: tasks that don't outlive the place that started them.

mod child;
mod ending;
mod members;
mod rounds;
mod shared;
mod supervise;
mod task;

use std::borrow::Cow;
use std::fmt;
#[cfg(feature = "server")]
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::context::{Context, Elapsed, context};
use child::spawn;
use ending::{Ended, Name};
use members::Kind;
use shared::{Deadline, NAME, Shared, State};
use supervise::supervised;

pub use ending::ChildReturn;
#[cfg(feature = "server")]
pub(crate) use ending::Failure;
pub use supervise::{Restart, RestartRule, Restarting, Together};
pub use task::{ChildError, ScopedTask};

/// A scope for tasks: a context whose teardown waits for all tasks that were spawned in it. None outlives it,
/// whatever becomes of the caller.
///
/// The value is a [`Scope`], by which tasks are spawned. `E` is the error that a task may fail with; where neither
/// a task nor the type of the body's argument names it, write `scope::<E>()`.
///
/// ```
/// use std::io;
/// use aioxide::Restart;
/// # async fn refresh() -> io::Result<()> { Ok(()) }
/// # async fn fetch(url: &str) -> io::Result<Vec<String>> { Ok(vec![url.to_owned()]) }
/// # async fn feed(url: &str) -> io::Result<()> { std::future::pending().await }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> io::Result<()> {
/// let rows = aioxide::scope()
///     .with(async |scope| {
///         scope.spawn(refresh());                     // a task; its error ends the scope
///         let rows = scope.spawn(fetch("db"));        // a handle, to be awaited or aborted
///         scope.supervise("feed", Restart::default(), || feed("db")); // started again when it fails
///         Ok::<_, io::Error>(rows.await?)
///     })
///     .await?;
/// assert_eq!(rows, ["db"]);
/// # Ok(()) }
/// ```
///
/// It is a context as any other: `.with(..)` runs a body in it, `.await` gives a guard, and
/// [`group`](crate::group), [`ExitStack`](crate::ExitStack) and [`#[actxmgr]`](macro@crate::actxmgr) functions take
/// it. What its tasks use is best entered around it: those contexts are torn down when all tasks are gone.
///
/// # Tasks fail together
///
/// The first task, or body, that fails cancels all others. They are waited for, and the first error is returned;
/// the errors of the others are logged with `tracing::error!` and counted by [`Scope::failures`]. A task that
/// panics does the same, and its panic goes on in the caller. The body of `with` is dropped at the `.await` where it
/// stands. A scope that is held as a guard has no body to cancel: [`Scope::cancelled`] tells its holder, and `exit`
/// returns the error.
///
/// With [`on_failure`](Context::on_failure) tasks fail alone.
///
/// # They end together
///
/// When the body has ended, tasks that were spawned are waited for, and may spawn others until then. When none of
/// them is left, [supervised](Scope::supervise) ones are cancelled.
///
/// To cancel tasks is to ask them to end, by [`Scope::cancelled`], and to abort those that are still there after the
/// [`grace`](Context::grace), which is zero by default. [`Scope::cancel`] does so at any time.
/// [`deadline`](Context::deadline) bounds the whole.
///
/// A task that blocks its thread can't be aborted, here as anywhere in tokio; the scope waits for it.
///
/// # They are cancelled together
///
/// When the scope is dropped, by an abort, a lost `select!` or a timeout, its tasks are cancelled at once, and its
/// teardown goes on detached until they, and the teardowns of contexts that they had entered, have ended. Contexts
/// around the scope are torn down after that: with a pool outside and connections in the tasks, first the
/// connections, then the pool.
///
/// # Errors
///
/// The first error of a task, or of the deadline; with `with` that of the setup or the body, whichever failed first.
///
/// # Panics
///
/// If a task does, once all have ended. If it has a deadline and is entered where tokio has no time driver. Tasks
/// are spawned on the runtime that the scope was entered on; entered outside of one, on that which
/// [`spawn`](Scope::spawn) is called on, which panics if there is none.
///
/// # Compared with
///
/// tokio's [`JoinSet`] aborts its tasks when it is dropped and waits for none of them; the first error stops
/// nobody. `TaskTracker` with a `CancellationToken`, of tokio-util, waits and cancels, with three things to get right
/// by hand: each task has to look at the token, its error has to get somewhere, and the wait has to survive the
/// cancellation of whoever waits. tokio-graceful-shutdown has subsystems of a program, with names, which are shut
/// down by signals; a scope is of a function, as small as one likes. Scopes are modelled on the nurseries of Python's
/// trio, which anyio's and asyncio's `TaskGroup` are too: there the parent waits in place, here also a parent that
/// is dropped is survived by the wait. aiotools' `TaskScope` and `PersistentTaskGroup` are `on_failure(Ignore)`, its
/// `Supervisor` restarts nothing; in Python a second cancellation ends the wait of all of them.
///
/// [`JoinSet`]: tokio::task::JoinSet
pub fn scope<E>() -> Context<Result<Scope<E>, E>>
where
    E: fmt::Display + Send + 'static,
{
    let shared = Arc::new(Shared::new());
    let own = Own(Arc::clone(&shared));
    context::<Result<Scope<E>, E>, _>(NAME, |yielder| async move {
        let own = own;
        own.0.open();
        let (scope, exit) = yielder.give(Scope(Arc::clone(&own.0))).await;
        drop(scope);
        own.0.end(&exit).await
    })
    .watched(shared)
}

/// What the scope's function holds: dropped half-way, it leaves no task behind.
struct Own<E: fmt::Display + Send + 'static>(Arc<Shared<E>>);

impl<E: fmt::Display + Send + 'static> Drop for Own<E> {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// For [`Context::on_failure`]: tasks of the scope fail alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignore;

/// Options of a [`scope()`](crate::scope), to be set before it is entered. They panic on other contexts that happen
/// to have its type.
impl<E> Context<Result<Scope<E>, E>>
where
    E: fmt::Display + Send + 'static,
{
    /// Lets tasks fail alone: an error or a panic of one is logged, counted by [`Scope::failures`], told by its
    /// [`ScopedTask`], and ends nothing else. The body still ends the scope when it fails.
    ///
    /// ```
    /// use aioxide::{ChildError, Ignore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let served = aioxide::scope::<std::io::Error>()
    ///     .on_failure(Ignore)
    ///     .with(async |scope| {
    ///         let bad = scope.spawn(async { Err::<(), _>(std::io::Error::other("reset by peer")) });
    ///         let good = scope.spawn(async { Ok(7) });
    ///         assert_eq!(bad.await, Err(ChildError::Failed));
    ///         Ok::<_, std::io::Error>(good.await?)
    ///     })
    ///     .await?;
    /// assert_eq!(served, 7);
    /// # Ok(()) }
    /// ```
    pub fn on_failure(self, _: Ignore) -> Self {
        self.set(|state| state.ignores = true)
    }

    /// How long cancelled tasks have to end by themselves before they are aborted. Zero by default.
    ///
    /// It counts from the moment when they are [asked](Scope::cancelled) to end, for whatever reason: a failure, the
    /// deadline, [`Scope::cancel`], the drop of the scope. Where tokio has no time driver they are aborted at once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> std::io::Result<()> {
    /// aioxide::scope::<std::io::Error>()
    ///     .grace(Duration::from_secs(5))
    ///     .with(async |scope| {
    ///         let cancelled = scope.cancelled();
    ///         let session = scope.spawn(async move {
    ///             cancelled.await;
    ///             tokio::time::sleep(Duration::from_secs(1)).await; // says goodbye
    ///             Ok("goodbye")
    ///         });
    ///         scope.cancel();
    ///         assert_eq!(session.await, Ok("goodbye"));
    ///         Ok(())
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn grace(self, grace: Duration) -> Self {
        self.set(|state| state.members.grace = grace)
    }

    /// Bounds the whole scope, from when it is entered until all tasks have ended: when `limit` has passed, it fails
    /// with an [`Elapsed`] and its tasks are cancelled, also with [`on_failure`](Self::on_failure).
    ///
    /// ```
    /// use std::io;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let ended = aioxide::scope::<io::Error>()
    ///     .deadline(Duration::from_secs(10))
    ///     .with(async |scope| {
    ///         scope.spawn(std::future::pending::<()>());
    ///         Ok::<_, io::Error>(())
    ///     })
    ///     .await;
    /// assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    /// # }
    /// ```
    pub fn deadline(self, limit: Duration) -> Self
    where
        E: From<Elapsed>,
    {
        let elapsed = E::from;
        self.set(|state| state.deadline = Some(Deadline { limit, elapsed }))
    }

    #[track_caller]
    fn set(mut self, set: impl FnOnce(&mut State<E>)) -> Self {
        let watch = self.watch();
        let shared = watch
            .as_deref()
            .and_then(|watch| watch.as_any().downcast_ref::<Shared<E>>());
        match shared {
            Some(shared) => set(&mut shared.state()),
            None => panic!("only a context made by `scope()` has the options of a scope"),
        }
        self
    }
}

/// The handle of a [`scope()`](crate::scope): it spawns tasks, and cancels them. A clone is a handle of the same scope.
///
/// It may be moved anywhere, also into the scope's own tasks, and may outlive the scope: then it spawns nothing any
/// more. Tasks run on the runtime that the scope was entered on.
pub struct Scope<E>(Arc<Shared<E>>);

impl<E: fmt::Display + Send + 'static> Scope<E> {
    /// Spawns a task.
    ///
    /// It returns `Result<T, E>`, with exactly the `E` of the scope, or `()`. If it fails, so does the scope. Turn
    /// other errors into `E` with `map_err`, or use [`spawn_value`](Self::spawn_value).
    ///
    /// If the scope has ended, or its tasks were cancelled, `future` is dropped, and the handle is that of a task
    /// that was cancelled; [`try_spawn`](Self::try_spawn) gives `future` back.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if the scope was entered outside one.
    #[track_caller]
    pub fn spawn<F, T>(&self, future: F) -> ScopedTask<T>
    where
        F: Future<Output: ChildReturn<E, Value = T>> + Send + 'static,
        T: Send + 'static,
    {
        self.start(Kind::Spawned, Cow::Borrowed(""), future)
            .unwrap_or_else(|_| ScopedTask::cancelled())
    }

    /// Like [`spawn`](Self::spawn), for a future of any type: nothing that it returns fails the scope; a panic does.
    ///
    /// # Panics
    ///
    /// As `spawn`.
    #[track_caller]
    pub fn spawn_value<F>(&self, future: F) -> ScopedTask<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn(future.map(Ended::Value))
    }

    /// Like [`spawn`](Self::spawn), with a name for logs of its failure.
    ///
    /// # Panics
    ///
    /// As `spawn`.
    #[track_caller]
    pub fn spawn_named<F, T>(&self, name: impl Into<Cow<'static, str>>, future: F) -> ScopedTask<T>
    where
        F: Future<Output: ChildReturn<E, Value = T>> + Send + 'static,
        T: Send + 'static,
    {
        self.start(Kind::Spawned, name.into(), future)
            .unwrap_or_else(|_| ScopedTask::cancelled())
    }

    /// Like [`spawn`](Self::spawn), for futures that are not to be lost.
    ///
    /// # Errors
    ///
    /// `future`, if the scope has ended or its tasks were cancelled.
    ///
    /// # Panics
    ///
    /// As `spawn`.
    #[track_caller]
    pub fn try_spawn<F, T>(&self, future: F) -> Result<ScopedTask<T>, F>
    where
        F: Future<Output: ChildReturn<E, Value = T>> + Send + 'static,
        T: Send + 'static,
    {
        self.start(Kind::Spawned, Cow::Borrowed(""), future)
    }

    /// Like [`spawn`](Self::spawn), for a future that need not be `Send`: it is spawned on the current `LocalSet`, or
    /// on that of a server's worker.
    ///
    /// # Panics
    ///
    /// Outside a `LocalSet`.
    #[track_caller]
    pub fn spawn_local<F, T>(&self, future: F) -> ScopedTask<T>
    where
        F: Future<Output: ChildReturn<E, Value = T>> + 'static,
        T: 'static,
    {
        let start = |_: &_, child| tokio::task::spawn_local(child);
        spawn(&self.0, Kind::Spawned, Cow::Borrowed(""), future, start)
            .unwrap_or_else(|_| ScopedTask::cancelled())
    }

    /// Spawns a task that is started again when it fails or panics, with a delay, until that happens too often: then
    /// it has failed. `make` makes the future of each run. The task ends when a run succeeds.
    ///
    /// The scope doesn't wait for it: when the body has ended, and no spawned task is left, supervised ones are
    /// cancelled. One that may take its time to end looks at [`cancelled`](Self::cancelled), with a
    /// [`grace`](Context::grace). A run that fails when its scope has asked to end isn't followed by another one.
    ///
    /// Before another run, the teardowns are waited for of what the last one had entered. Each failure is logged with
    /// `tracing::error!` and counted by [`failures`](Self::failures); the last one is the scope's to return.
    ///
    /// ```
    /// use std::io;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use aioxide::Restart;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> io::Result<()> {
    /// static RUNS: AtomicU32 = AtomicU32::new(0);
    /// async fn feed() -> io::Result<&'static str> {
    ///     match RUNS.fetch_add(1, Ordering::Relaxed) {
    ///         0 | 1 => Err(io::Error::other("connection reset")),
    ///         _ => Ok("end of file"),
    ///     }
    /// }
    ///
    /// let end = aioxide::scope()
    ///     .with(async |scope| {
    ///         let feed = scope.supervise("feed", Restart::default(), feed);
    ///         Ok::<_, io::Error>(feed.await?)
    ///     })
    ///     .await?;
    /// assert_eq!((end, RUNS.load(Ordering::Relaxed)), ("end of file", 3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn). Where tokio has no time driver, the task panics when it is to be started again.
    #[track_caller]
    pub fn supervise<F, M, T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        restart: impl RestartRule,
        make: M,
    ) -> ScopedTask<T>
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output: ChildReturn<E, Value = T>> + Send + 'static,
        T: Send + 'static,
    {
        let restarting = restart.into_restarting();
        self.start_supervised(Kind::Supervised, name.into(), restarting, make)
    }

    /// Like [`supervise`](Self::supervise), but the scope waits for the task as for a spawned one: it stays open until
    /// the task succeeds, fails for good, or is cancelled.
    ///
    /// # Panics
    ///
    /// As `supervise`.
    #[track_caller]
    pub fn supervise_forever<F, M, T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        restart: impl RestartRule,
        make: M,
    ) -> ScopedTask<T>
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output: ChildReturn<E, Value = T>> + Send + 'static,
        T: Send + 'static,
    {
        let restarting = restart.into_restarting();
        self.start_supervised(Kind::Spawned, name.into(), restarting, make)
    }

    #[track_caller]
    fn start_supervised<F, M, T>(
        &self,
        kind: Kind,
        name: Name,
        restarting: Restarting,
        make: M,
    ) -> ScopedTask<T>
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output: ChildReturn<E, Value = T>> + Send + 'static,
        T: Send + 'static,
    {
        let future = supervised(Arc::clone(&self.0), name.clone(), restarting, make);
        self.start(kind, name, future)
            .unwrap_or_else(|_| ScopedTask::cancelled())
    }

    #[track_caller]
    fn start<F, T>(&self, kind: Kind, name: Name, future: F) -> Result<ScopedTask<T>, F>
    where
        F: Future<Output: ChildReturn<E, Value = T>> + Send + 'static,
        T: Send + 'static,
    {
        spawn(&self.0, kind, name, future, |runtime, child| {
            runtime.spawn(child)
        })
    }

    /// Cancels all tasks: asks them to end, and aborts those that are still there after the
    /// [`grace`](Context::grace). The scope doesn't fail by that, and spawns no tasks any more. The body of `with` goes
    /// on. Doing so again does no harm.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether all tasks were asked to end, or have ended.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_asked()
    }

    /// Waits until all tasks are asked to end: by [`cancel`](Self::cancel), because one has failed, because the scope
    /// is left or dropped or has passed its deadline. For tasks that clean up within the
    /// [`grace`](Context::grace), and for holders of a scope's guard.
    ///
    /// The future owns what it needs. It is cancel safe: it may be dropped and asked for again.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static + use<E> {
        let shared = Arc::clone(&self.0);
        async move { shared.asked().await }
    }

    /// The number of tasks in the scope, supervised ones included.
    pub fn len(&self) -> usize {
        self.0.state().members.len()
    }

    /// Whether there are no tasks in the scope.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until a task has failed, and takes what the scope was going to fail with.
    #[cfg(feature = "server")]
    pub(crate) async fn failed(&self) -> Failure<E> {
        poll_fn(|cx| self.0.poll_first(cx)).await
    }

    /// Takes what the scope was going to fail with.
    #[cfg(feature = "server")]
    pub(crate) fn take_failure(&self) -> Option<Failure<E>> {
        self.0.state().first.take()
    }

    /// How many tasks have failed or panicked so far. Each run of a supervised one counts.
    pub fn failures(&self) -> u64 {
        self.0.failures()
    }
}

impl<E> Clone for Scope<E> {
    fn clone(&self) -> Self {
        Scope(Arc::clone(&self.0))
    }
}

impl<E> Scope<E> {
    /// What the tasks are called that have not ended yet, or where they were spawned.
    pub(crate) fn labels(&self) -> Vec<String> {
        let state = self.0.state();
        state.members.labels().map(ToString::to_string).collect()
    }
}

/// Names the tasks that have not ended yet, or says where they were spawned.
impl<E> fmt::Debug for Scope<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = self.labels();
        f.debug_struct("Scope")
            .field("tasks", &tasks)
            .finish_non_exhaustive()
    }
}
