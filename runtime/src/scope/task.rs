//! The handle of a task of a scope.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio::task::{Id, JoinHandle, LocalSet};

/// A task of a [`Scope`](crate::Scope): a future of what it returns.
///
/// It differs from a [`JoinHandle`] in what happens to the task's error: that goes to the scope, which fails with
/// it, and the handle only says that there was one. Dropping it does nothing to the task, which stays in its
/// scope: a task of a scope can't be detached.
///
/// # Errors
///
/// [`ChildError::Cancelled`] if the task was aborted or never started, [`ChildError::Failed`] if it returned an
/// error, [`ChildError::Panicked`] if it panicked.
///
/// # Panics
///
/// If it is polled after it was ready.
///
/// # Cancellation
///
/// Dropping it, or a future that awaits `&mut` to it, does nothing to the task. If the task returns its value to
/// nobody, the task drops it.
pub struct ScopedTask<T> {
    result: oneshot::Receiver<Result<T, ChildError>>,
    task: JoinHandle<()>,
}

impl<T> ScopedTask<T> {
    pub(super) fn new(
        result: oneshot::Receiver<Result<T, ChildError>>,
        task: JoinHandle<()>,
    ) -> Self {
        ScopedTask { result, task }
    }

    /// Of a task that is never started, because the scope has ended.
    pub(super) fn cancelled() -> Self {
        let (_, result) = oneshot::channel();
        // A task of its own, cancelled with its set, so that this one has an id too. It needs no runtime.
        let task = LocalSet::new().spawn_local(async {});
        ScopedTask { result, task }
    }

    /// Aborts the task: it is dropped at the `.await` where it stands, or ends if it is polled to its end before.
    /// The scope doesn't fail by that. A task that has ended stays as it is.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether the task has ended, in whichever way.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// The id of the task, as [`tokio::task::id`] gives it inside.
    pub fn id(&self) -> Id {
        self.task.id()
    }
}

impl<T> Future for ScopedTask<T> {
    type Output = Result<T, ChildError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.result).poll(cx));
        Poll::Ready(result.unwrap_or(Err(ChildError::Cancelled)))
    }
}

impl<T> fmt::Debug for ScopedTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedTask")
            .field("id", &self.id())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Why a [`ScopedTask`] has no value.
///
/// It turns into an `io::Error` and into a `Box<dyn Error>` with `?`. It carries no cause: that is the scope's to
/// return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChildError {
    /// The task was aborted, by its handle or by its scope, or its scope had ended before it could start.
    #[error("the task was cancelled")]
    Cancelled,
    /// The task returned an error, with which its scope fails.
    #[error("the task failed")]
    Failed,
    /// The task panicked, which goes on in the caller of its scope.
    #[error("the task panicked")]
    Panicked,
}

impl From<ChildError> for io::Error {
    fn from(error: ChildError) -> Self {
        io::Error::other(error)
    }
}
