//! What a supervisor remembers of its replacement, and of that of its predecessor by it.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::handover::Handover;
use super::messages::ToPredecessor;
use super::predecessor::Heard;
use super::succession::Succession;
use super::successor::{Said, Successor};
use crate::server::supervisor::entrances::Entrances;
#[cfg(feature = "monitor")]
use crate::server::supervisor::entrances::Gate;
use crate::server::supervisor::image::Origin;

/// How a supervisor can be replaced, if it can.
pub(crate) struct Upgrader {
    pub(crate) origin: io::Result<Origin>,
    /// Nobody waits for this process's pid.
    pub(crate) new_pid: bool,
    /// It is the first server that the program runs: a new process begins with that one.
    pub(crate) is_first: bool,
}

/// What a supervisor remembers of its replacement, and of that of its predecessor.
#[derive(Default)]
pub(in crate::server::supervisor) struct Upgrading {
    /// None where the program is not this server's.
    pub(in crate::server::supervisor) upgrader: Option<Upgrader>,
    /// The number of workers has been changed since the first of the supervisors was started.
    pub(in crate::server::supervisor) scaled: bool,
    /// How many successors have been started.
    pub(in crate::server::supervisor) number: u64,
    pub(in crate::server::supervisor) ongoing: Option<Ongoing>,
    /// Where those come in who look into the server.
    #[cfg(feature = "monitor")]
    pub(in crate::server::supervisor) reception: Option<(Entrances, Gate)>,
    /// What the predecessor let them in by, and isn't wanted here.
    pub(in crate::server::supervisor) unwanted: Entrances,
    pub(in crate::server::supervisor) heir: Option<Succeeding>,
}

/// A successor, until it is gone.
pub(in crate::server::supervisor) struct Ongoing {
    pub(in crate::server::supervisor) number: u64,
    pub(in crate::server::supervisor) handover: Handover,
    pub(in crate::server::supervisor) successor: Successor,
    /// Why it didn't take over.
    pub(in crate::server::supervisor) failed: Option<String>,
}

/// The predecessor, and what becomes of it.
pub(in crate::server::supervisor) struct Succeeding {
    pub(in crate::server::supervisor) succession: Succession,
    pub(in crate::server::supervisor) predecessor: mpsc::UnboundedSender<ToPredecessor>,
}

/// What is heard of the others.
pub(crate) enum Other {
    /// Of the successor of this number.
    Successor(u64, Said),
    /// The service manager has dealt with what it was told of that one, or doesn't answer.
    Named(u64, bool),
    Predecessor(Heard),
}

impl Upgrading {
    pub(in crate::server::supervisor) fn new(
        upgrader: Option<Upgrader>,
        #[cfg(feature = "monitor")] reception: Option<(Entrances, Gate)>,
    ) -> Upgrading {
        Upgrading {
            upgrader,
            #[cfg(feature = "monitor")]
            reception,
            ..Upgrading::default()
        }
    }

    pub(in crate::server::supervisor) fn next_deadline(&self) -> Option<Duration> {
        self.ongoing.as_ref()?.handover.next_deadline()
    }

    pub(in crate::server::supervisor) fn gap(&mut self, gap: Duration) {
        if let Some(ongoing) = &mut self.ongoing {
            ongoing.handover.gap(gap);
        }
    }

    /// Whether no successor is left that would be alone once this supervisor ends.
    pub(in crate::server::supervisor) fn is_settled(&self) -> bool {
        let ongoing = self.ongoing.as_ref();
        ongoing.is_none_or(|ongoing| ongoing.handover.is_settled())
    }

    /// To be called when nothing else is left to be done.
    pub(in crate::server::supervisor) async fn finish(&mut self) {
        if let Some(ongoing) = self.ongoing.take() {
            ongoing.successor.finish().await;
        }
    }

    /// Whether this supervisor has yet to take over what its predecessor has.
    pub(in crate::server::supervisor) fn is_waiting(&self) -> bool {
        let heir = self.heir.as_ref();
        heir.is_some_and(|heir| !heir.succession.serves())
    }
}
