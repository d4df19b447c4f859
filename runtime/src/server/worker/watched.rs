//! What a worker counts of itself, if somebody may look into the server.

use std::sync::Arc;

use super::connections::Connections;
use crate::census::Census;
use crate::server::Isolation;

#[derive(Clone)]
pub(crate) struct Watched {
    pub(super) connections: Arc<Connections>,
    pub(super) census: Arc<Census>,
    isolation: Isolation,
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
}
