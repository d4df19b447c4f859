//! Who a worker is.

use crate::server::{Isolation, Stop};

/// What a worker is for. Extras are workers without an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "process", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Role {
    /// A worker of this index.
    Slot(usize),
    /// The extra at this position of the option.
    Extra(usize),
}

impl Role {
    /// `None` for an extra.
    pub(crate) fn index(self) -> Option<usize> {
        match self {
            Role::Slot(index) => Some(index),
            Role::Extra(_) => None,
        }
    }
}

/// Who a worker is, as its own code sees it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// `None` for an extra, and for the main context.
    pub(crate) index: Option<usize>,
    /// `worker 3`, or the name of the extra.
    pub(crate) name: String,
    pub(crate) count: usize,
    pub(crate) generation: u64,
    pub(crate) isolation: Isolation,
    /// Given by yields at once, when the workers run to their own end.
    pub(crate) to_completion: Option<Stop>,
}

impl Identity {
    /// `worker`, or the name of the extra: a field of the log.
    pub(crate) fn role(&self) -> &str {
        match self.index {
            Some(_) => "worker",
            None => &self.name,
        }
    }
}
