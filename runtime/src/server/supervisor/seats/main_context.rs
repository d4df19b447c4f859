//! The context that is entered before a server's workers start and left after all have ended.

use std::any::Any;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use crate::context::{Context, Exit, Guard, Outcome as _, Return};
use crate::server::Worker;
use crate::server::job::Body;
use crate::server::line::link::Input;

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

/// Enters the context, tells its value, and leaves it when the worker handle is asked to stop. The last
/// argument says whether the value goes to processes.
pub(crate) type MakeMain = Box<dyn FnOnce(mpsc::UnboundedSender<Input>, bool) -> Body + Send>;

pub(crate) fn make_main<M, R>(main: M, encode: Option<Encode<R::Value>>) -> MakeMain
where
    M: FnOnce() -> Context<R> + Send + 'static,
    R: Return<Body: crate::context::Outcome> + 'static,
    R::Value: Clone + Send + 'static,
{
    Box::new(move |supervisor, to_processes| {
        let encode = encode.filter(|_| to_processes);
        Body::from_async(move |worker| hold(main, encode, worker, supervisor))
    })
}

async fn hold<M, R>(
    main: M,
    encode: Option<Encode<R::Value>>,
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
    // A supervisor that is gone has ended the process.
    let _ = supervisor.send(Input::MainEntered(value));
    let stop = worker.stopping().await;
    match guard.exit_with(Exit::Stopped(stop)).await.failure() {
        Some(text) => Err(text),
        None => Ok(()),
    }
}
