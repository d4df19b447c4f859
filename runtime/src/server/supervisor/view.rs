//! How a server is doing, as its supervisor sees it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::policy::WorkerId;
use crate::server::line::Role;

/// The server at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// `starting`, `serving`, `going`, `stopping`, ...
    pub(crate) state: &'static str,
    /// All workers and extras have been ready.
    pub(crate) was_ready: bool,
    /// A stop has been asked for; it may have yet to begin.
    pub(crate) going: bool,
    /// Another supervisor serves in the place of this one.
    pub(crate) replaced: bool,
    /// How many workers there are to be, and how many once the present roll is over.
    pub(crate) target: usize,
    pub(crate) wanted: usize,
    pub(crate) most: usize,
    pub(crate) roll: Option<Roll>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) workers: Vec<WorkerView>,
    pub(crate) places: Vec<Place>,
}

#[derive(Clone, Debug)]
pub(crate) struct Roll {
    /// The one role that is restarted, or all of them.
    pub(crate) only: Option<Role>,
    pub(crate) remaining: usize,
    /// Predecessors that have yet to go.
    pub(crate) draining: usize,
}

/// A living worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerView {
    pub(crate) id: WorkerId,
    pub(crate) role: Role,
    pub(crate) pid: u32,
    pub(crate) generation: u64,
    pub(crate) image: u64,
    /// `starting`, `ready`, `draining` or `killed`.
    pub(crate) state: &'static str,
    /// For how long.
    pub(crate) since: Duration,
    /// Its event loop has begun to turn.
    pub(crate) turning: bool,
    /// How long the last question to its event loop took, or has been taking.
    pub(crate) lag: Option<Duration>,
    pub(crate) blocked: bool,
}

/// What becomes of a role, whether it is filled or not.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) role: Role,
    /// `worker 3`, or the name of the extra.
    pub(crate) name: String,
    /// Whether it needs nobody any more.
    pub(crate) out: bool,
    /// In how long it is filled again.
    pub(crate) retry_in: Option<Duration>,
    /// How often it has been filled after the first time.
    pub(crate) restarts: u64,
    pub(crate) failures: u64,
    pub(crate) last_failure: Option<(SystemTime, String)>,
}

/// The failures of each role, by its name: how many, and the last one.
pub(super) type Failures = BTreeMap<String, (u64, SystemTime, String)>;

/// An address, and what the roles hold of it.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) address: String,
    /// A role, and `held`, `lent to worker 3`, `parked` or `waiting`.
    pub(crate) held: Vec<(Role, String)>,
}
