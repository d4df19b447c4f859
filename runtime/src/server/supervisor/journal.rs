//! The last things that happened to a server, for those who look.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::server::line::Role;

/// How many are kept.
const ENTRIES: usize = 1000;

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Counts up from 1.
    pub(crate) number: u64,
    pub(crate) at: SystemTime,
    /// `started`, `ready`, `failed`, ...
    pub(crate) kind: &'static str,
    pub(crate) worker: Option<usize>,
    /// `worker`, the name of the extra, or none for the server itself.
    pub(crate) role: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) text: String,
    pub(crate) step: Option<Step>,
}

/// What those wait for who have asked the supervisor to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Of one role, or of all.
    RollStarted(Option<Role>),
    RollDone,
    /// The successor of this role failed to start.
    RollGivenUp(Role),
    /// It was to be, and is not to run any more.
    NotRestarted(Role),
    ScaleGivenUp,
    /// The supervisor could not be replaced.
    UpgradeFailed,
    #[cfg_attr(not(feature = "process"), expect(dead_code))]
    Upgraded,
    /// Or what was asked for is refused because of that.
    Stopping,
}

/// Written by the supervisor, read from any thread; neither ever waits long for the other.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: Mutex<VecDeque<Arc<Entry>>>,
    newest: watch::Sender<u64>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            entries: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl Journal {
    /// Its number is the journal's to give.
    pub(super) fn note(&self, mut entry: Entry) {
        let mut entries = self.lock();
        let number = self.newest() + 1;
        entry.number = number;
        if entries.len() == ENTRIES {
            entries.pop_front();
        }
        entries.push_back(Arc::new(entry));
        drop(entries);
        self.newest.send_replace(number);
    }

    /// The number of the last one, 0 before there is any.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Those after that number, as far as they are kept.
    pub(crate) fn since(&self, number: u64) -> Vec<Arc<Entry>> {
        let entries = self.lock();
        let newer = entries.iter().filter(|entry| entry.number > number);
        newer.map(Arc::clone).collect()
    }

    /// Tells the number of the last one whenever that changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_kept() {
        let journal = Journal::default();
        assert_eq!(journal.newest(), 0);
        for n in 0..2500 {
            journal.note(Entry {
                number: 0,
                at: SystemTime::now(),
                kind: "ready",
                worker: Some(n),
                role: None,
                pid: None,
                text: String::new(),
                step: None,
            });
        }
        let kept = journal.since(0);
        assert_eq!((kept[0].number, kept.len()), (1501, 1000));
        assert_eq!(kept[0].worker, Some(1500));
        assert_eq!(journal.since(2498).len(), 2);
        assert_eq!(journal.since(9999).len(), 0);
        assert_eq!(journal.newest(), 2500);
    }
}
