//! Why a context is left.

use std::fmt;

use crate::report::in_full;

#[cfg(feature = "server")]
use crate::server::Stop;

/// Why a context is left: what the teardown gets from `yield_(value).await`.
///
/// ```
/// use aioxide::{Always, Exit, actxmgr};
///
/// #[actxmgr]
/// async fn transaction() -> Always<Vec<&'static str>> {
///     let (mut log, exit) = yield_(vec!["begin"]).await;
///     log.push(if exit.is_success() { "commit" } else { "rollback" });
///     assert_eq!(log, ["begin", "rollback"]);
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// transaction().await.exit_with(Exit::Failed("out of stock".to_owned())).await;
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The caller left by itself: `exit()`, or the body of `with` returned.
    Completed,
    /// The caller's body returned this error.
    Failed(String),
    /// The caller panicked.
    Panicked,
    /// The caller was dropped: an abort, a lost `select!`, a timeout, an early return.
    Cancelled,
    /// The server was asked to stop: how its main context is left.
    #[cfg(feature = "server")]
    Stopped(Stop),
}

impl Exit {
    /// Whether the caller's work came to its proper end: `Completed` or `Stopped`.
    pub fn is_success(&self) -> bool {
        match self {
            Exit::Completed => true,
            #[cfg(feature = "server")]
            Exit::Stopped(_) => true,
            Exit::Failed(_) | Exit::Panicked | Exit::Cancelled => false,
        }
    }

    /// `Completed` or `Failed`, as `result` says.
    pub(crate) fn of<T, E: fmt::Display>(result: &Result<T, E>) -> Exit {
        match result {
            Ok(_) => Exit::Completed,
            Err(error) => Exit::Failed(in_full(error)),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Completed => f.pad("completed"),
            Exit::Failed(error) => write!(f, "failed: {error}"),
            Exit::Panicked => f.pad("panicked"),
            Exit::Cancelled => f.pad("cancelled"),
            #[cfg(feature = "server")]
            Exit::Stopped(stop) => write!(f, "stopped: {stop}"),
        }
    }
}
