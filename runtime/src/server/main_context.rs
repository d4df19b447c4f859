//! The context that is entered before a server's workers start and left after all have ended.

use std::any::Any;

use tokio::sync::mpsc;

use super::Worker;
use super::job::Body;
use super::link::Input;
use crate::context::{Context, Exit, Guard, Outcome as _, Return};

/// The value of the main context, given to every worker.
pub(crate) type MainValue = Box<dyn Any + Send>;

/// Enters the context, tells its value, and leaves it when the worker handle is asked to stop.
pub(crate) type MakeMain = Box<dyn FnOnce(mpsc::UnboundedSender<Input>) -> Body + Send>;

pub(crate) fn make_main<M, R>(main: M) -> MakeMain
where
    M: FnOnce() -> Context<R> + Send + 'static,
    R: Return<Body: crate::context::Outcome> + 'static,
    R::Value: Clone + Send + 'static,
{
    Box::new(move |supervisor| Body::from_async(move |worker| hold(main, worker, supervisor)))
}

async fn hold<M, R>(
    main: M,
    worker: Worker,
    supervisor: mpsc::UnboundedSender<Input>,
) -> Result<(), String>
where
    M: FnOnce() -> Context<R>,
    R: Return<Body: crate::context::Outcome>,
    R::Value: Clone + Send + 'static,
{
    let entered = tokio::select! {
        biased;
        _ = worker.stopping() => return Ok(()),
        entered = main().enter() => entered,
    };
    let guard: Guard<R> =
        R::into_guard(entered).map_err(|body| body.failure().unwrap_or_default())?;
    let value: MainValue = Box::new(R::Value::clone(&guard));
    // A supervisor that is gone has ended the process.
    let _ = supervisor.send(Input::MainEntered(value));
    let stop = worker.stopping().await;
    match guard.exit_with(Exit::Stopped(stop)).await.failure() {
        Some(text) => Err(text),
        None => Ok(()),
    }
}
