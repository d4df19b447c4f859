//! What the handle, its futures and the code that runs the worker have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tasks::Tasks;
use crate::server::line::{Identity, Line, Message, Told};

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
    /// How many connections the accept loops have accepted.
    pub(crate) accepted: AtomicU64,
    ready: AtomicBool,
}

impl Shared {
    pub(crate) fn new(identity: Identity, line: Line, told: Arc<Told>) -> Shared {
        Shared {
            identity,
            line,
            told,
            tasks: Tasks::default(),
            serving: TaskTracker::new(),
            cut: CancellationToken::new(),
            overran: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            ready: AtomicBool::new(false),
        }
    }

    /// Answers pings for as long as the event loop turns.
    pub(crate) async fn answer_pings(self: Arc<Self>, mut pinged: watch::Receiver<u64>) {
        let mut told = 0;
        while pinged.changed().await.is_ok() {
            let number = *pinged.borrow_and_update();
            self.line.pong(number);
            let accepted = self.accepted.load(Ordering::Relaxed);
            if std::mem::replace(&mut told, accepted) != accepted {
                self.line.say(Message::Accepted(accepted));
            }
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
