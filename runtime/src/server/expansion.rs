//! What the expansion of `#[server]` names.
//!
//! The bounds stand on functions of one argument each, so that rustc points at the tokens that break them and
//! has nothing left to say about the rest.

use std::future::Future;

use futures_util::future::LocalBoxFuture;

use crate::context::{self, Context, Return};
use crate::server::{Outcome, Stopping};
use crate::{Server, Worker};

/// `#[server]` on the function `name`.
pub fn server<F, Fut>(name: &'static str, worker: F) -> Server
where
    F: Fn(Worker) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    Server::new(worker).of_function(name)
}

/// `#[server(main = ..)]` on the function `name`.
pub fn server_with_main<R, F, Fut>(name: &'static str, main: Main<R>, worker: F) -> Server
where
    R: Return<Value: MainValue, Body: context::Outcome> + 'static,
    F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    Server::with_main(main, worker).of_function(name)
}

/// `#[server(isolation = process, main = ..)]` on the function `name`.
#[cfg(feature = "process")]
pub fn server_with_shared_main<R, F, Fut>(name: &'static str, main: Main<R>, worker: F) -> Server
where
    R: Return<Value: MainValue + SharedValue, Body: context::Outcome> + 'static,
    F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    Server::with_shared_main(main, worker).of_function(name)
}

/// `#[server(isolation = expression, main = ..)]` on the function `name`.
#[cfg(feature = "process")]
pub fn server_with_main_for_either<R, F, Fut>(
    name: &'static str,
    main: Main<R>,
    worker: F,
) -> Server
where
    R: Return<Value: MainValue + SharedValue, Body: context::Outcome> + 'static,
    F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    server_with_shared_main(name, main, worker)
}

/// `#[server(isolation = expression, main = ..)]` on the function `name`.
#[cfg(not(feature = "process"))]
pub fn server_with_main_for_either<R, F, Fut>(
    name: &'static str,
    main: Main<R>,
    worker: F,
) -> Server
where
    R: Return<Value: MainValue, Body: context::Outcome> + 'static,
    F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), String>> + 'static,
{
    server_with_main(name, main, worker)
}

/// An extra that takes the value of this main context.
pub fn extra_with_main<R, F, O>(_main: &Main<R>, extra: F) -> F
where
    R: Return,
    F: FnOnce(Worker, R::Value) -> O,
{
    extra
}

/// What a worker's `yield_` is.
pub trait Ready: Fn() -> Stopping + Clone + Send + Sync + 'static {}

impl<F: Fn() -> Stopping + Clone + Send + Sync + 'static> Ready for F {}

/// The worker's `yield_`.
pub fn ready(worker: &Worker) -> impl Ready + use<> {
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

/// An argument of the caller, for every start of a worker. It is borrowed here, for with one that is given away
/// rustc would have the user borrow it.
pub fn argument<A: ClonedArgument + SentArgument + 'static>(argument: &A) -> Held<A> {
    Held(Box::new(argument.clone()))
}

/// Is `Clone` and `Send` whatever `A` is, so that one that isn't is reported once.
pub struct Held<A>(Box<dyn Hold<A>>);

impl<A> Held<A> {
    /// The argument of one start.
    pub fn get(&self) -> A {
        self.0.get()
    }
}

impl<A> Clone for Held<A> {
    fn clone(&self) -> Held<A> {
        Held(self.0.hold())
    }
}

trait Hold<A>: Send {
    fn get(&self) -> A;
    fn hold(&self) -> Box<dyn Hold<A>>;
}

impl<A: Clone + Send + 'static> Hold<A> for A {
    fn get(&self) -> A {
        self.clone()
    }

    fn hold(&self) -> Box<dyn Hold<A>> {
        Box::new(self.clone())
    }
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

/// The worker's future, with what it returns checked. In a box, for an opaque type would have rustc report what
/// is wrong with it at each use.
pub fn ending<Fut>(running: Fut) -> LocalBoxFuture<'static, Result<(), String>>
where
    Fut: Future<Output: Outcome> + 'static,
{
    Box::pin(async move { running.await.outcome() })
}

/// Gives the main context.
pub type Main<R> = Box<dyn FnOnce() -> Context<R> + Send>;

/// The value of the option `main`.
pub fn main<M: MainFn<R>, R: Return>(main: M) -> Main<R> {
    Box::new(|| main.context())
}

/// What `main =` names.
#[diagnostic::on_unimplemented(
    message = "`main` takes the path of an `#[actxmgr]` function without arguments, and this is none",
    label = "gives no `aioxide::Context`",
    note = "write `#[actxmgr]` on an async function that takes nothing and yields what every worker is to get"
)]
pub trait MainFn<R: Return>: Send + 'static {
    /// The context, not yet entered.
    fn context(self) -> Context<R>;
}

#[diagnostic::do_not_recommend]
impl<M, R> MainFn<R> for M
where
    M: FnOnce() -> Context<R> + Send + 'static,
    R: Return,
{
    fn context(self) -> Context<R> {
        self()
    }
}

/// The worker's second argument, with `main = ..`.
pub fn main_value<V, A: FromMain<V>>(value: V) -> A {
    A::from_main(value)
}

/// What stands second among a worker's arguments, with `main = ..`.
#[diagnostic::on_unimplemented(
    message = "the second argument of this `#[server]` function is the main context's value, a `{V}`, not `{Self}`",
    label = "the main context yields `{V}`"
)]
pub trait FromMain<V> {
    /// The argument.
    fn from_main(value: V) -> Self;
}

impl<V> FromMain<V> for V {
    fn from_main(value: V) -> V {
        value
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
