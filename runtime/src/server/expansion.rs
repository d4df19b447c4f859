//! What the expansion of `#[server]` names.

use std::future::Future;

use crate::context::{self, Context, Return};
use crate::server::Outcome;
use crate::{Server, Worker};

/// `#[server]` on the function `name`.
pub fn server<F, Fut>(name: &'static str, worker: F) -> Server
where
    F: Fn(Worker) -> Fut + Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    Server::new(worker).named(name)
}

/// `#[server(main = ..)]` on the function `name`.
pub fn server_with_main<M, R, F, Fut>(name: &'static str, main: M, worker: F) -> Server
where
    M: FnOnce() -> Context<R> + Send + 'static,
    R: Return<Body: context::Outcome> + 'static,
    R::Value: Clone + Send + 'static,
    F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    Server::with_main(main, worker).named(name)
}

/// `#[server(isolation = process, main = ..)]` on the function `name`.
#[cfg(feature = "process")]
pub fn server_with_shared_main<M, R, F, Fut>(name: &'static str, main: M, worker: F) -> Server
where
    M: FnOnce() -> Context<R> + Send + 'static,
    R: Return<Body: context::Outcome> + 'static,
    R::Value: Clone + Send + serde::Serialize + serde::de::DeserializeOwned + 'static,
    F: Fn(Worker, R::Value) -> Fut + Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    Server::with_shared_main(main, worker).named(name)
}

/// An argument of a `#[server]` function, for one more start of a worker.
pub fn clone_argument<A: Argument>(argument: &A) -> A {
    argument.clone()
}

/// What the caller of a `#[server]` function may pass.
#[diagnostic::on_unimplemented(
    message = "an argument of a `#[server]` function is cloned for every worker, and `{Self}` isn't `Clone`",
    label = "not `Clone`"
)]
pub trait Argument: Clone {}

impl<A: Clone> Argument for A {}
