//! What the handle, its futures and the code that runs the worker have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(feature = "monitor")]
use super::connections::Connections;
use super::tasks::Tasks;
use crate::server::line::{Identity, Line, Told};

pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) line: Line,
    pub(crate) told: Arc<Told>,
    pub(crate) tasks: Tasks,
    /// The accept loops, and what ends their handlers.
    pub(crate) serving: TaskTracker,
    pub(crate) cut: CancellationToken,
    /// Work was cut because the deadline had come.
    pub(crate) overran: AtomicBool,
    ready: AtomicBool,
    /// Present if somebody may look into the server.
    #[cfg(feature = "monitor")]
    pub(super) watched: Option<Arc<Connections>>,
}

impl Shared {
    pub(crate) fn new(identity: Identity, line: Line, told: Arc<Told>) -> Shared {
        Shared {
            #[cfg(feature = "monitor")]
            watched: told.queries.as_ref().map(|_| Arc::default()),
            identity,
            line,
            told,
            tasks: Tasks::default(),
            serving: TaskTracker::new(),
            cut: CancellationToken::new(),
            overran: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        }
    }

    /// Answers pings for as long as the event loop turns.
    pub(crate) async fn answer_pings(self: Arc<Self>, mut pinged: watch::Receiver<u64>) {
        while pinged.changed().await.is_ok() {
            let number = *pinged.borrow_and_update();
            self.line.pong(number);
        }
    }

    /// Drops what still handles connections, so that its teardowns start before the event loop ends.
    pub(crate) async fn cut_connections(&self) {
        self.cut.cancel();
        self.serving.close();
        self.serving.wait().await;
    }

    pub(crate) fn name(&self) -> &str {
        &self.identity.name
    }

    pub(crate) fn announce_ready(&self) {
        if !self.ready.swap(true, Ordering::AcqRel) {
            self.line.ready();
        }
    }
}
