//! What the expansion of `#[server]` names.
//!
//! The bounds stand on functions of one argument each, so that rustc points at the tokens that break them and
//! has nothing left to say about the rest.

use std::future::Future;

use crate::context::{self, Context, Return};
use crate::server::{Outcome, Stopping};
use crate::{Server, Worker};

/// `#[server]` on the function `name`.
pub fn server<F, Fut>(name: &'static str, worker: F) -> Server
where
    F: Fn(Worker) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    Server::new(worker).named(name)
}

/// `#[server(main = ..)]` on the function `name`.
pub fn server_with_main<M, F, Fut>(name: &'static str, main: M, worker: F) -> Server
where
    M: MainFn,
    M::Value: MainValue,
    F: Fn(Worker, M::Value) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    Server::with_main(move || main.context(), worker).named(name)
}

/// `#[server(isolation = process, main = ..)]` on the function `name`.
#[cfg(feature = "process")]
pub fn server_with_shared_main<M, F, Fut>(name: &'static str, main: M, worker: F) -> Server
where
    M: MainFn,
    M::Value: MainValue + SharedValue,
    F: Fn(Worker, M::Value) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    Server::with_shared_main(move || main.context(), worker).named(name)
}

/// The worker's `yield_`.
pub fn yielder(worker: &Worker) -> impl Fn() -> Stopping + Clone + use<> {
    let worker = worker.clone();
    move || worker.ready()
}

/// The worker's first argument.
pub fn worker<A: WorkerArgument>(worker: Worker) -> A {
    A::of(worker)
}

/// What stands first among a worker's arguments.
#[diagnostic::on_unimplemented(
    message = "the first argument of a `#[server]` function is its `Worker`, not `{Self}`",
    label = "not `aioxide::Worker`",
    note = "write `worker: Worker` in front; arguments of your own stand after it"
)]
pub trait WorkerArgument {
    /// The argument.
    fn of(worker: Worker) -> Self;
}

impl WorkerArgument for Worker {
    fn of(worker: Worker) -> Worker {
        worker
    }
}

/// Gives an argument of the caller for each start of a worker.
pub fn argument<A: ClonedArgument + SentArgument + 'static>(
    argument: A,
) -> impl Fn() -> A + Clone + Send + 'static {
    move || argument.clone()
}

/// What the caller of a `#[server]` function may pass.
#[diagnostic::on_unimplemented(
    message = "an argument of a `#[server]` function is cloned for every worker, and `{Self}` isn't `Clone`",
    label = "not `Clone`",
    note = "derive `Clone` for it, or take an `Arc` of it"
)]
pub trait ClonedArgument: Clone {}

// Without this, here and below, rustc would report the missing bound in its own words.
#[diagnostic::do_not_recommend]
impl<A: Clone> ClonedArgument for A {}

/// What the caller of a `#[server]` function may pass.
#[diagnostic::on_unimplemented(
    message = "an argument of a `#[server]` function goes to the threads of the workers, and `{Self}` isn't `Send`",
    label = "not `Send`",
    note = "take an `Arc` in place of an `Rc`; what need not be shared can be made by the worker itself"
)]
pub trait SentArgument: Send {}

#[diagnostic::do_not_recommend]
impl<A: Send> SentArgument for A {}

/// The worker's future, with what it returns checked.
pub fn ending<Fut>(running: Fut) -> impl Future<Output = Result<(), String>> + 'static
where
    Fut: Future<Output: Outcome> + 'static,
{
    async move { running.await.outcome() }
}

/// What `main =` names.
#[diagnostic::on_unimplemented(
    message = "`main` takes the path of an `#[actxmgr]` function without arguments, and this is none",
    label = "gives no `aioxide::Context` when called as `{Self}()`",
    note = "its value goes to every worker; an argument of the context can be read from the environment in it"
)]
pub trait MainFn: Send + 'static {
    /// What the context is declared to return.
    type Declared: Return<Value = Self::Value, Body: context::Outcome> + 'static;
    /// What it yields.
    type Value;

    /// The context, not yet entered.
    fn context(self) -> Context<Self::Declared>;
}

#[diagnostic::do_not_recommend]
impl<M, R> MainFn for M
where
    M: FnOnce() -> Context<R> + Send + 'static,
    R: Return<Body: context::Outcome> + 'static,
{
    type Declared = R;
    type Value = R::Value;

    fn context(self) -> Context<R> {
        self()
    }
}

/// What the main context may yield.
#[diagnostic::on_unimplemented(
    message = "the main context's value is cloned for every worker, and `{Self}` isn't `Clone` and `Send`",
    label = "yields `{Self}`",
    note = "derive `Clone` for it, or yield an `Arc` of it"
)]
pub trait MainValue: Clone + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<V: Clone + Send + 'static> MainValue for V {}

/// What the main context of process workers may yield.
#[cfg(feature = "process")]
#[diagnostic::on_unimplemented(
    message = "the main context's value goes to other processes, and `{Self}` isn't `Serialize` and `DeserializeOwned`",
    label = "yields `{Self}`",
    note = "derive both with serde, for all that there is to it: a database's address, not a connection; or write `isolation = thread`"
)]
pub trait SharedValue: serde::Serialize + serde::de::DeserializeOwned {}

#[cfg(feature = "process")]
#[diagnostic::do_not_recommend]
impl<V: serde::Serialize + serde::de::DeserializeOwned> SharedValue for V {}
