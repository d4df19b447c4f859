//! What a worker counts of itself, if somebody may look into the server.

use std::cell::RefCell;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::connections::{self, Connections};
use crate::census::{self, Census, Kind, Task};
use crate::server::Isolation;

#[derive(Clone)]
pub(crate) struct Watched {
    pub(super) connections: Arc<Connections>,
    pub(super) census: Arc<Census>,
    isolation: Isolation,
}

/// A connection that is being handled, until dropped.
pub(super) struct Handled {
    _connection: connections::Handled,
    task: RefCell<Option<Task>>,
    cut: CancellationToken,
}

impl Watched {
    pub(super) fn new(isolation: Isolation) -> Watched {
        Watched {
            connections: Arc::default(),
            census: Census::new(),
            isolation,
        }
    }

    /// This thread's contexts and tasks are the worker's; in a process of its own all are.
    pub(super) fn join(&self) {
        self.census.join();
        if self.isolation == Isolation::Process {
            self.census.of_process();
        }
    }

    /// A connection from `peer` is handled from now on, unless it is `cut`.
    pub(super) fn handle<A: 'static>(
        &self,
        peer: &A,
        name: &str,
        cut: &CancellationToken,
    ) -> Handled {
        Handled {
            _connection: self.connections.handle(peer),
            task: RefCell::new(census::begin(Kind::Handler, name)),
            cut: cut.clone(),
        }
    }
}

impl Handled {
    pub(super) fn end(&self, outcome: &Result<(), String>) {
        if let Some(task) = self.task.take() {
            match outcome {
                Ok(()) => task.complete(),
                Err(error) => task.fail(error),
            }
        }
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        if self.cut.is_cancelled() && !std::thread::panicking() {
            if let Some(task) = self.task.take() {
                task.cancel("connections were cut at the deadline of the stop");
            }
        }
    }
}
