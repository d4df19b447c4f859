//! A task of a scope, from its start to its end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::ending::{ChildReturn, Ended, Failure, Name};
use super::members::{Key, Kind, Label};
use super::shared::Shared;
use super::task::{ChildError, ScopedTask};
#[cfg(feature = "monitor")]
use crate::census;
use crate::panic::catch;
#[cfg(feature = "monitor")]
use crate::panic::{into_text, text_of};
use crate::teardown::InnerPlace;

pin_project! {
    /// The future that is spawned: it tells the scope how the task has ended, and that it has.
    ///
    /// Its own output is nothing, so that nothing of the task is left to be dropped once its scope knows of the end.
    pub(super) struct Child<F, E>
    where
        F: Future,
        F::Output: ChildReturn<E>,
        E: fmt::Display,
        E: Send,
        E: 'static,
    {
        #[pin]
        future: Option<F>,
        // Where its contexts are entered: inside the place that started it.
        place: InnerPlace,
        duty: Option<Duty<<F::Output as ChildReturn<E>>::Value, E>>,
    }

    impl<F, E> PinnedDrop for Child<F, E>
    where
        F: Future,
        F::Output: ChildReturn<E>,
        E: fmt::Display,
        E: Send,
        E: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(duty) = this.duty.take() {
                // Aborted, or its runtime has ended.
                let ended = match this.place.run(|| catch(|| this.future.set(None))) {
                    Ok(()) => Ended::Cancelled,
                    Err(panic) => Ended::Panicked(panic),
                };
                duty.end(ended, this.place);
            }
        }
    }
}

impl<F, E> Future for Child<F, E>
where
    F: Future<Output: ChildReturn<E>>,
    E: fmt::Display + Send + 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let ended = this.place.run(|| {
            let future = this.future.as_mut().as_pin_mut()?;
            let ended = match catch(|| future.poll(cx)) {
                Ok(Poll::Pending) => return None,
                Ok(Poll::Ready(output)) => output.end(),
                Err(panic) => Ended::Panicked(panic),
            };
            let dropped = catch(|| this.future.set(None));
            Some(match (ended, dropped) {
                (Ended::Value(_) | Ended::Cancelled, Err(panic)) => Ended::Panicked(panic),
                (ended, _) => ended,
            })
        });
        let Some(ended) = ended else {
            return Poll::Pending;
        };
        if let Some(duty) = this.duty.take() {
            duty.end(ended, this.place);
        }
        Poll::Ready(())
    }
}

/// What remains to be done when the task has ended.
struct Duty<T, E> {
    shared: Arc<Shared<E>>,
    key: Key,
    name: Name,
    result: oneshot::Sender<Result<T, ChildError>>,
    #[cfg(feature = "monitor")]
    task: Option<census::Task>,
}

impl<T, E: fmt::Display + Send + 'static> Duty<T, E> {
    fn end(self, ended: Ended<T, E>, place: &mut InnerPlace) {
        let Duty {
            shared,
            key,
            name,
            result,
            #[cfg(feature = "monitor")]
            task,
        } = self;
        #[cfg(feature = "monitor")]
        if let Some(task) = task {
            match &ended {
                Ended::Value(_) => task.complete(),
                Ended::Failed(error) => {
                    let text = catch(|| format!("{error:#}"));
                    task.fail(&text.unwrap_or_else(into_text));
                }
                Ended::Panicked(panic) => task.panic(text_of(&**panic).unwrap_or_default()),
                Ended::Cancelled => task.cancel(shared.why()),
            }
        }
        // The failure is known to the scope before anybody can hear of it from the handle.
        let result = match ended {
            Ended::Value(value) => Some((result, Ok(value))),
            Ended::Failed(error) => {
                shared.fail(&name, Failure::Error(error));
                Some((result, Err(ChildError::Failed)))
            }
            Ended::Panicked(panic) => {
                shared.fail(&name, Failure::Panic(panic));
                Some((result, Err(ChildError::Panicked)))
            }
            Ended::Cancelled => None,
        };
        if let Some((sender, result)) = result {
            // A value that nobody takes is dropped here, where it belongs to the task.
            if let Err(value) = sender.send(result) {
                if let Err(panic) = place.run(|| catch(|| drop(value))) {
                    shared.fail(&name, Failure::Panic(panic));
                }
            }
        }
        let place = std::mem::replace(place, InnerPlace::nowhere());
        shared.ended(key, place);
    }
}

/// Starts `future` in the scope, by `start`; gives it back if it is too late for that.
#[track_caller]
pub(super) fn spawn<F, E>(
    shared: &Arc<Shared<E>>,
    kind: Kind,
    name: Name,
    future: F,
    start: impl FnOnce(&Handle, Child<F, E>) -> JoinHandle<()>,
) -> Result<ScopedTask<<F::Output as ChildReturn<E>>::Value>, F>
where
    F: Future<Output: ChildReturn<E>>,
    E: fmt::Display + Send + 'static,
{
    let current;
    let runtime = match shared.runtime() {
        Some(runtime) => runtime,
        None => {
            current = Handle::current();
            &current
        }
    };
    let Some(key) = shared.admit(kind, Label::new(name.clone())) else {
        return Err(future);
    };
    #[cfg(feature = "monitor")]
    let task = match &*name {
        "" => census::begin_at(census::Kind::Child, std::panic::Location::caller()),
        name => census::begin(census::Kind::Child, name),
    };
    let (sender, receiver) = oneshot::channel();
    let child = Child {
        future: Some(future),
        place: InnerPlace::in_current(),
        duty: Some(Duty {
            shared: Arc::clone(shared),
            key,
            name,
            result: sender,
            #[cfg(feature = "monitor")]
            task,
        }),
    };
    // It may run, and end, before its handle is here.
    let task = start(runtime, child);
    shared.started(key, task.abort_handle());
    Ok(ScopedTask::new(receiver, task))
}
