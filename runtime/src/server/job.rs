//! What a server runs, with the user's types erased: its workers, its extras, and the main context, which is
//! entered before the workers start and left after all have ended.

use std::any::Any;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::balance::Balanced;
use super::line::{Ended, Identity, Line, Role, Told};
use super::watcher::Watcher;
use crate::context::{self, Context, Exit, Guard, Outcome as _, Return};

/// What a worker, an extra or a connection's handler may return: `()` or `Result<(), E>`.
#[diagnostic::on_unimplemented(
    message = "a worker, an extra or a handler returns `()` or `Result<(), E>`, not `{Self}`",
    label = "returns `{Self}`",
    note = "`E` is any error that converts into `Box<dyn Error + Send + Sync>`: `io::Error`, `anyhow::Error`, `String`, ..."
)]
pub trait Outcome {
    /// The failure as one line of text, with the causes of its cause.
    #[doc(hidden)]
    fn outcome(self) -> Result<(), String>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

// Without this rustc would report a conversion that is missing, in its own words.
#[diagnostic::do_not_recommend]
impl<E> Outcome for Result<(), E>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn outcome(self) -> Result<(), String> {
        self.map_err(|error| describe(&*error.into()))
    }
}

/// An error and its sources, joined by colons.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors print their source themselves, at the end.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// One run of one worker.
pub(crate) enum Body {
    /// On an event loop; made where it runs, because it need not be `Send`.
    Async(Box<dyn FnOnce(Worker) -> LocalBoxFuture<'static, Result<(), String>> + Send>),
    /// On a plain thread.
    Sync(Box<dyn FnOnce(Worker) -> Result<(), String> + Send>),
}

impl Body {
    pub(crate) fn from_async<F, Fut>(run: F) -> Body
    where
        F: FnOnce(Worker) -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        Body::Async(Box::new(move |worker| {
            let running = run(worker);
            Box::pin(async move { running.await.outcome() })
        }))
    }
}

/// Gives a body where that is to run, because cloning for it is the user's code, which may panic or hang.
pub(crate) type StartBody = Box<dyn FnOnce() -> Body + Send>;

/// The main context's value, if there is one.
pub(crate) type MainRef<'a> = Option<&'a (dyn Any + Send)>;

/// Gives a body for each start of a worker or an extra, the arguments and the main context's value cloned.
pub(crate) type MakeBody = Arc<Mutex<dyn FnMut(MainRef<'_>) -> Body + Send>>;

/// The main context's value as what the code that takes it says it is.
pub(crate) fn main_as<V: Clone + 'static>(main: MainRef<'_>) -> Result<V, String> {
    let main = main.ok_or("the main context's value is missing")?;
    let value = main.downcast_ref::<V>().cloned();
    value.ok_or_else(|| {
        format!(
            "the main context's value isn't a `{}`",
            std::any::type_name::<V>()
        )
    })
}

/// The lock of what is shared by those that start. A panic of one of them is no reason to fail the others.
pub(crate) fn lock<T: ?Sized>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A function that a server runs beside its workers: `fn(Worker)` or `async fn(Worker)`, or one of them with the
/// main context's value as its second argument.
///
/// `Kind` only tells them apart; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "an extra is `fn(Worker)` or `async fn(Worker)`, returning `()` or `Result<(), E>`",
    label = "not usable as an extra",
    note = "`E` is any error that converts into `Box<dyn Error + Send + Sync>`: `io::Error`, `anyhow::Error`, `String`, ..."
)]
pub trait ExtraFn<Kind>: Clone + Send + 'static {
    /// Whether it counts as ready when it has started.
    #[doc(hidden)]
    const READY_AT_START: bool;

    #[doc(hidden)]
    fn body(self, main: Option<&(dyn Any + Send)>) -> ExtraBody;
}

/// Keeps [`Body`] out of the public interface.
#[doc(hidden)]
pub struct ExtraBody(pub(crate) Body);

#[doc(hidden)]
pub struct AsyncKind;
#[doc(hidden)]
pub struct SyncKind;

#[diagnostic::do_not_recommend]
impl<F, Fut> ExtraFn<(AsyncKind, Fut)> for F
where
    F: FnOnce(Worker) -> Fut + Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    const READY_AT_START: bool = false;

    fn body(self, _: MainRef<'_>) -> ExtraBody {
        ExtraBody(Body::from_async(self))
    }
}

#[diagnostic::do_not_recommend]
impl<F, O> ExtraFn<(SyncKind, O)> for F
where
    F: FnOnce(Worker) -> O + Clone + Send + 'static,
    O: Outcome,
{
    const READY_AT_START: bool = true;

    fn body(self, _: MainRef<'_>) -> ExtraBody {
        ExtraBody(Body::Sync(Box::new(move |worker| self(worker).outcome())))
    }
}

#[diagnostic::do_not_recommend]
impl<F, V, Fut> ExtraFn<(AsyncKind, V, Fut)> for F
where
    F: FnOnce(Worker, V) -> Fut + Clone + Send + 'static,
    V: Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    const READY_AT_START: bool = false;

    fn body(self, main: MainRef<'_>) -> ExtraBody {
        let main = main_as::<V>(main);
        ExtraBody(Body::from_async(async move |worker| {
            self(worker, main?).await.outcome()
        }))
    }
}

#[diagnostic::do_not_recommend]
impl<F, V, O> ExtraFn<(SyncKind, V, O)> for F
where
    F: FnOnce(Worker, V) -> O + Clone + Send + 'static,
    V: Clone + Send + 'static,
    O: Outcome,
{
    const READY_AT_START: bool = true;

    fn body(self, main: MainRef<'_>) -> ExtraBody {
        let main = main_as::<V>(main);
        ExtraBody(Body::Sync(Box::new(move |worker| {
            self(worker, main?).outcome()
        })))
    }
}

/// A registered extra.
pub(crate) struct Extra {
    pub(crate) name: String,
    pub(crate) ready_at_start: bool,
    pub(crate) make: MakeBody,
}

impl Extra {
    pub(crate) fn new<K, F: ExtraFn<K>>(name: String, function: F) -> Extra {
        Extra {
            name,
            ready_at_start: F::READY_AT_START,
            make: Arc::new(Mutex::new(move |main: MainRef<'_>| {
                function.clone().body(main).0
            })),
        }
    }
}

/// The value of the main context, given to every worker.
pub(crate) struct MainValue {
    pub(crate) value: Arc<Mutex<dyn Any + Send>>,
    /// As process workers get it.
    #[cfg_attr(not(feature = "process"), expect(dead_code))]
    pub(crate) encoded: Option<Arc<[u8]>>,
}

/// Makes a value of what a process worker got.
#[cfg(feature = "process")]
pub(crate) type Decode = fn(&[u8]) -> Result<MainValue, String>;

/// Makes what process workers get of a value.
pub(crate) type Encode<V> = fn(&V) -> Result<Arc<[u8]>, String>;

/// Takes the main context's value once that has been entered.
pub(crate) type Entered = Box<dyn FnOnce(MainValue) + Send>;

/// Enters the context, tells its value, and leaves it when the worker handle is asked to stop. The last
/// argument says whether the value goes to processes.
pub(crate) type MakeMain = Box<dyn FnOnce(Entered, bool) -> Body + Send>;

pub(crate) fn make_main<M, R>(main: M, encode: Option<Encode<R::Value>>) -> MakeMain
where
    M: FnOnce() -> Context<R> + Send + 'static,
    R: Return<Body: context::Outcome> + 'static,
    R::Value: Clone + Send + 'static,
{
    Box::new(move |tell, to_processes| {
        let encode = encode.filter(|_| to_processes);
        Body::from_async(move |worker| hold(main, encode, worker, tell))
    })
}

async fn hold<M, R>(
    main: M,
    encode: Option<Encode<R::Value>>,
    worker: Worker,
    tell: Entered,
) -> Result<(), String>
where
    M: FnOnce() -> Context<R>,
    R: Return<Body: context::Outcome>,
    R::Value: Clone + Send + 'static,
{
    let entered = tokio::select! {
        biased;
        _ = worker.stopping() => return Ok(()),
        entered = main().enter() => entered,
    };
    let guard: Guard<R> =
        R::into_guard(entered).map_err(|body| body.failure().unwrap_or_default())?;
    let encoded = match encode.map(|encode| encode(&guard)).transpose() {
        Ok(encoded) => encoded,
        Err(error) => {
            guard.exit_with(Exit::Failed(error.clone())).await;
            return Err(error);
        }
    };
    let value = MainValue {
        value: Arc::new(Mutex::new(R::Value::clone(&guard))),
        encoded,
    };
    tell(value);
    let stop = worker.stopping().await;
    match guard.exit_with(Exit::Stopped(stop)).await.failure() {
        Some(text) => Err(text),
        None => Ok(()),
    }
}

/// What a server runs.
pub(crate) struct Job {
    pub(crate) make: MakeBody,
    pub(crate) main: Option<MakeMain>,
    pub(crate) extras: Vec<Extra>,
    #[cfg(feature = "process")]
    pub(crate) decode: Option<Decode>,
}

impl Job {
    /// The main context's value, as it came to a worker.
    #[cfg(feature = "process")]
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<MainValue, String> {
        match self.decode {
            Some(decode) => decode(bytes),
            None => Err("this program has no main context for its processes".to_owned()),
        }
    }

    /// What starts a worker, where it runs.
    pub(crate) fn start(&self, role: Role, main: Option<&MainValue>) -> StartBody {
        let make = Arc::clone(match role {
            Role::Slot(_) => &self.make,
            Role::Extra(extra) => &self.extras[extra].make,
        });
        let main = main.map(|main| Arc::clone(&main.value));
        Box::new(move || {
            let main = main.as_deref().map(lock);
            lock(&make)(main.as_deref())
        })
    }

    pub(crate) fn name(&self, role: Role) -> String {
        match role {
            Role::Slot(index) => format!("worker {index}"),
            Role::Extra(extra) => self.extras[extra].name.clone(),
        }
    }
}

/// One run of a worker, an extra or the main context.
pub(crate) struct Run {
    pub(crate) identity: Identity,
    pub(crate) line: Line,
    pub(crate) told: Arc<Told>,
    pub(crate) start: StartBody,
    /// Bounds what comes after the body when that ended without having been asked to.
    pub(crate) patience: Duration,
    /// Who notices when its event loop is blocked.
    pub(crate) watcher: Option<Watcher>,
    /// With whom it shares its connections.
    pub(crate) balanced: Option<Balanced>,
}

/// Carries out a run on the thread that calls it, to its end or until it is killed.
pub(crate) type CarryOut = fn(Run, &CancellationToken) -> Ended;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extras_are_told_apart() {
        async fn metrics(_: Worker) {}
        fn router(_: Worker) -> Result<(), std::io::Error> {
            Ok(())
        }
        async fn exporter(_: Worker, _main: String) {}
        fn ready_at_start<K>(function: impl ExtraFn<K>) -> bool {
            Extra::new("extra".to_owned(), function).ready_at_start
        }
        assert!(!ready_at_start(metrics));
        assert!(ready_at_start(router));
        assert!(!ready_at_start(exporter));
        assert!(ready_at_start(|_: Worker, _main: u8| ()));
        assert!(!ready_at_start(async |_: Worker| ()));
    }

    #[test]
    fn the_main_value_is_what_it_is() {
        assert_eq!(main_as::<u8>(Some(&5_u8)), Ok(5));
        assert!(main_as::<u8>(Some(&5_u16)).is_err_and(|error| error.contains("isn't a `u8`")));
        assert!(main_as::<u8>(None).is_err_and(|error| error.contains("missing")));
    }

    #[test]
    fn an_error_is_described_with_its_causes() {
        let inner = std::io::Error::new(std::io::ErrorKind::AddrInUse, "taken");
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(
            Err::<(), _>(Outer(inner)).outcome(),
            Err("cannot start: taken".to_owned())
        );

        // One that prints the next one itself, and whose root has a word of its own text.
        #[derive(Debug, thiserror::Error)]
        #[error("the disk is full: {0}")]
        struct Outermost(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("flush failed")]
        struct Middle(#[source] std::io::Error);
        let root = std::io::Error::other("disk");
        assert_eq!(
            Err::<(), _>(Outermost(Middle(root))).outcome(),
            Err("the disk is full: flush failed: disk".to_owned())
        );
    }
}
