//! What the handle, its futures and the code that runs the worker have in common.

use std::sync::Arc;
#[cfg(feature = "scope")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tasks::Tasks;
#[cfg(feature = "monitor")]
use super::watched::Watched;
#[cfg(feature = "scope")]
use crate::Scope;
use crate::server::balance::Balanced;
use crate::server::line::{Identity, Line, Told};

/// What tasks of a worker's scope fail with.
#[cfg(feature = "scope")]
pub(super) type TaskError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) line: Line,
    pub(crate) told: Arc<Told>,
    pub(crate) tasks: Tasks,
    /// Set when the worker's event loop begins.
    #[cfg(feature = "scope")]
    pub(super) scope: OnceLock<Scope<TaskError>>,
    /// As many permits as connections may be open at once.
    pub(crate) max_connections: Option<Arc<Semaphore>>,
    /// Present if connections are handed to whom has the fewest.
    pub(super) balanced: Option<Balanced>,
    /// The accept loops, and what ends their handlers.
    pub(crate) serving: TaskTracker,
    pub(crate) cut: CancellationToken,
    /// Work was cut because the deadline had come.
    pub(crate) overran: AtomicBool,
    ready: AtomicBool,
    /// Present if somebody may look into the server.
    #[cfg(feature = "monitor")]
    pub(super) watched: Option<Watched>,
}

#[cfg(test)]
impl Shared {
    /// A thread worker that nobody supervises.
    pub(super) fn alone(told: Arc<Told>) -> Arc<Shared> {
        let identity = Identity {
            index: Some(0),
            name: "worker 0".to_owned(),
            comm: "echo/0".to_owned(),
            count: 1,
            generation: 0,
            isolation: crate::server::Isolation::Thread,
            to_completion: None,
            max_connections: None,
        };
        Arc::new(Shared::new(identity, Line::new(drop), told))
    }
}

impl Shared {
    pub(crate) fn new(identity: Identity, line: Line, told: Arc<Told>) -> Shared {
        let max = identity.max_connections;
        let max = max.map(|max| max.min(Semaphore::MAX_PERMITS));
        Shared {
            balanced: None,
            max_connections: max.map(|max| Arc::new(Semaphore::new(max))),
            #[cfg(feature = "monitor")]
            watched: told
                .queries
                .as_ref()
                .map(|_| Watched::new(identity.isolation)),
            identity,
            line,
            told,
            tasks: Tasks::default(),
            #[cfg(feature = "scope")]
            scope: OnceLock::new(),
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
            self.told.answer(number, |message| self.line.say(message));
        }
    }

    /// How many tasks have to end before the worker does.
    pub(crate) fn number_of_tasks(&self) -> usize {
        #[cfg(feature = "scope")]
        let scoped = self.scope.get().map_or(0, Scope::len);
        #[cfg(not(feature = "scope"))]
        let scoped = 0;
        self.tasks.len() + scoped
    }

    /// What those of the scope are called, or where they were spawned.
    pub(crate) fn labels_in_scope(&self) -> Vec<String> {
        #[cfg(feature = "scope")]
        return self.scope.get().map(Scope::labels).unwrap_or_default();
        #[cfg(not(feature = "scope"))]
        Vec::new()
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
