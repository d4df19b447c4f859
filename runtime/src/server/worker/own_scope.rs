//! The scope around a worker's function, whose tasks end with the worker.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::shared::{Shared, TaskError};
use crate::context::{Exit, Guard};
use crate::panic;
use crate::scope::{self, Scope};
use crate::server::job::describe;
use crate::server::line::Failure;
use crate::teardown::{InPlace, InnerPlace};

pub(super) struct OwnScope(Guard<Result<Scope<TaskError>, TaskError>>);

impl OwnScope {
    /// From here on `worker` gives it to its code.
    pub(super) async fn enter(worker: &Shared) -> OwnScope {
        // Its end says nothing of what the function has dropped, which is none of its own.
        let beside = InnerPlace::in_current();
        let guard = InPlace::new(beside, scope::scope().enter()).await;
        let guard = guard.expect("a scope without a deadline is entered at once");
        // Nobody else sets it.
        let _ = worker.scope.set(Scope::clone(&guard));
        OwnScope(guard)
    }

    /// Waits until a task has failed. All others are cancelled by then.
    pub(super) async fn failed(&self) -> Failure {
        failure(self.0.failed().await)
    }

    /// What a task has failed with.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.0.take_failure().map(failure)
    }

    /// Waits for its tasks when the worker's function has ended, or cancels them if that has failed. Gives what one of
    /// them fails with. Dropped, it cancels them too.
    pub(super) async fn end(self, failed: bool) -> Option<Failure> {
        let exit = match failed {
            true => Exit::Cancelled,
            false => Exit::Completed,
        };
        let ended = AssertUnwindSafe(self.0.exit_with(exit)).catch_unwind();
        match ended.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(failure(scope::Failure::Error(error))),
            Err(payload) => Some(failure(scope::Failure::Panic(payload))),
        }
    }
}

fn failure(failure: scope::Failure<TaskError>) -> Failure {
    match failure {
        scope::Failure::Error(error) => Failure::Error(describe(&*error)),
        scope::Failure::Panic(payload) => Failure::Panic(panic::into_text(payload)),
    }
}
