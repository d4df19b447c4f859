//! The place of a task of a scope in the order of teardowns.

use std::future::poll_fn;

use crate::teardown::{self, Origin, Turn};

/// Detached teardowns of a task's own contexts.
pub(super) struct Unsettled(Turn<Origin>);

impl Unsettled {
    /// Those of the task that is polled or dropped on this thread, if there may be any.
    pub(super) fn here() -> Option<Unsettled> {
        teardown::any_pending().then(|| Unsettled(teardown::turn(0, 0)))
    }

    /// Waits until they have ended.
    pub(super) async fn settled(mut self) {
        poll_fn(|cx| teardown::poll_turn(&mut self.0, cx)).await;
    }
}
