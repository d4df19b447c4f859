//! What a service manager has passed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use super::kernel::Kernel;
use super::table::{Inherited, Kept};

/// The sockets that a service manager has passed to this process.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) passed: Vec<Inherited<OwnedFd>>,
    /// Those of the run before.
    pub(crate) kept: Vec<Kept<Kernel>>,
    /// What these and others of ours are called in the manager's store, and their identities.
    pub(crate) in_store: BTreeMap<String, u64>,
}
