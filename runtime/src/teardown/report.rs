//! What goes wrong in teardowns with nobody to tell, and who hears of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::panic;

/// What went wrong in a teardown whose caller is no longer there, or got another error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TeardownError {
    /// The teardown returned an error.
    #[error("the teardown of `{name}` failed: {error}")]
    #[non_exhaustive]
    Failed {
        /// The function that the context was made by.
        name: &'static str,
        /// The error, displayed.
        error: String,
    },
    /// The teardown panicked.
    #[error("the teardown of `{name}` panicked: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The function that the context was made by.
        name: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The teardown took longer than its `teardown_timeout`.
    #[error("the teardown of `{name}` was given up: it took longer than {limit:?}")]
    #[non_exhaustive]
    TimedOut {
        /// The function that the context was made by.
        name: &'static str,
        /// The `teardown_timeout`.
        limit: Duration,
    },
    /// The teardown couldn't be brought to its end.
    #[error("the teardown of `{name}` was abandoned half-way: {reason}")]
    #[non_exhaustive]
    Abandoned {
        /// The function that the context was made by.
        name: &'static str,
        /// What kept it from going on.
        reason: &'static str,
    },
}

impl TeardownError {
    /// The function that the context was made by.
    pub fn name(&self) -> &'static str {
        match self {
            TeardownError::Failed { name, .. }
            | TeardownError::Panicked { name, .. }
            | TeardownError::TimedOut { name, .. }
            | TeardownError::Abandoned { name, .. } => name,
        }
    }

    pub(crate) fn panicked(name: &'static str, panic: Box<dyn Any + Send>) -> TeardownError {
        TeardownError::Panicked {
            name,
            message: panic::into_text(panic),
        }
    }
}

type Hook = Arc<dyn Fn(&TeardownError) + Send + Sync>;

static HOOK: Mutex<Option<Hook>> = Mutex::new(None);

/// Installs the program's one hook for teardowns that go wrong with nobody to tell. A second call replaces
/// the first hook.
///
/// It is called on the thread where the teardown ended, beside the `tracing::error!` that is always emitted;
/// it should neither block nor panic (a panic in it is logged and goes no further).
///
/// ```
/// aioxide::teardown::on_error(|error| eprintln!("{}: {error}", error.name()));
/// ```
pub fn on_error(hook: impl Fn(&TeardownError) + Send + Sync + 'static) {
    let hook: Hook = Arc::new(hook);
    let replaced = HOOK
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(hook);
    drop(replaced);
}

/// Logs `error` and tells the hook. Never panics: it is called from `Drop`.
pub(crate) fn report(error: &TeardownError) {
    panic::guarded(|| tracing::error!(context = error.name(), "{error}"));
    #[cfg(feature = "monitor")]
    crate::census::happened("teardown", || error.to_string());
    let hook = HOOK.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(hook) = hook else { return };
    if catch_unwind(AssertUnwindSafe(|| hook(error))).is_err() {
        panic::guarded(|| tracing::error!("the hook of `teardown::on_error` panicked"));
    }
}

/// Reports a panic that goes no further.
pub(crate) fn report_panic(name: &'static str, panic: Box<dyn Any + Send>) {
    report(&TeardownError::panicked(name, panic));
}
