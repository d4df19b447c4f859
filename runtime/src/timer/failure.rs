//! Why a tick has failed, and who is told.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::tick::Tick;
use crate::panic;

/// Why a tick has failed, as [`TimerBuilder::on_error`](crate::TimerBuilder::on_error) is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TickError {
    /// It returned this `Err`, written by `{:#}`: that of anyhow or eyre with the chain of its causes.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
    /// It was dropped at the end of this timeout.
    TimedOut(Duration),
}

impl fmt::Display for TickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TickError::Failed(error) => f.write_str(error),
            TickError::Panicked(panic) => write!(f, "panicked: {panic}"),
            TickError::TimedOut(timeout) => write!(f, "timed out after {timeout:?}"),
        }
    }
}

impl std::error::Error for TickError {}

/// The function that is told of failed ticks.
#[derive(Clone)]
pub(super) struct Hook(Arc<dyn Fn(&Tick, &TickError) + Send + Sync>);

impl Hook {
    pub(super) fn new(hook: impl Fn(&Tick, &TickError) + Send + Sync + 'static) -> Hook {
        Hook(Arc::new(hook))
    }

    /// A panic goes no further than the log.
    pub(super) fn tell(&self, tick: &Tick, error: &TickError) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.0)(tick, error))) {
            let panic = panic::into_text(panic);
            panic::guarded(|| {
                tracing::error!(
                    timer = tick.timer(),
                    tick = tick.index(),
                    panic,
                    "`on_error` panicked"
                );
            });
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fn(&Tick, &TickError)")
    }
}
