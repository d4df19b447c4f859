//! Waiting for what the caller itself has dropped.

use super::order::Wait;
use super::place::Place;

/// Waits for the detached teardowns of the current place that are pending now, and for what is inside them.
///
/// The place is where the caller enters contexts: the body of a `with`, a context's own function, a tick of a timer,
/// a child of a scope, and else the task, or the thread; see [`teardown`](crate::teardown). Use it where something
/// that was dropped has to be gone before the caller goes on, as at the end of a `select!` loop's turn.
///
/// Compare [`drain`](crate::drain), which waits for all teardowns of the runtime.
///
/// # Cancellation
///
/// Dropping the future ends the wait and nothing else.
///
/// ```
/// use aioxide::{Always, actxmgr, settle};
/// # use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
/// # static CLOSED: AtomicBool = AtomicBool::new(false);
///
/// #[actxmgr]
/// async fn session() -> Always<u32> {
///     yield_(7).await;
///     tokio::task::yield_now().await;
///     # CLOSED.store(true, Relaxed);
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// drop(session().await);                       // torn down detached
/// settle().await;                              // now it is closed
/// # assert!(CLOSED.load(Relaxed));
/// # }
/// ```
pub async fn settle() {
    if let Some(wait) = Wait::for_all_in(&Place::current()) {
        wait.await;
    }
}
