//! What is in systemd's store of descriptors, which outlives this process. No socket is in here.

use std::collections::{BTreeMap, BTreeSet};

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The socket of this identity is to be kept under this name.
    Keep {
        called: String,
        identity: u64,
    },
    Remove {
        called: String,
    },
}

#[derive(Debug)]
pub(super) struct Store {
    /// How many it has room for, if systemd has said so.
    room: Option<usize>,
    /// By its name each, what is in it.
    kept: BTreeMap<String, u64>,
    /// How many found no room.
    left_out: usize,
}

impl Store {
    /// With what it gave back at the start of this process.
    pub(super) fn new(room: Option<usize>, kept: BTreeMap<String, u64>) -> Store {
        Store {
            room,
            kept,
            left_out: 0,
        }
    }

    /// What makes it one of exactly these sockets. A socket that is in it already keeps its name.
    pub(super) fn follow(
        &mut self,
        wanted: &BTreeSet<u64>,
        called: impl Fn(u64) -> String,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        self.kept.retain(|called, identity| {
            let stays = wanted.contains(identity);
            if !stays {
                let called = called.clone();
                changes.push(Change::Remove { called });
            }
            stays
        });
        let kept: BTreeSet<u64> = self.kept.values().copied().collect();
        self.left_out = 0;
        for identity in wanted.difference(&kept) {
            if self.room.is_some_and(|room| self.kept.len() >= room) {
                self.left_out += 1;
                continue;
            }
            let (called, identity) = (called(*identity), *identity);
            self.kept.insert(called.clone(), identity);
            changes.push(Change::Keep { called, identity });
        }
        changes
    }

    /// How many sockets it has room for and how many there are, if it is too small for them.
    pub(super) fn too_small(&self) -> Option<(usize, usize)> {
        let sockets = self.kept.len() + self.left_out;
        self.room
            .filter(|_| self.left_out > 0)
            .map(|room| (room, sockets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(store: &mut Store, wanted: &[u64]) -> Vec<Change> {
        let wanted = wanted.iter().copied().collect();
        store.follow(&wanted, |identity| format!("slot {}", identity % 10))
    }

    fn keep(identity: u64) -> Change {
        let called = format!("slot {}", identity % 10);
        Change::Keep { called, identity }
    }

    fn remove(slot: u64) -> Change {
        let called = format!("slot {slot}");
        Change::Remove { called }
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let mut store = Store::new(None, BTreeMap::new());
        assert_eq!(follow(&mut store, &[1, 2]), [keep(1), keep(2)]);
        assert_eq!(follow(&mut store, &[1, 2]), []);
        assert_eq!(follow(&mut store, &[1]), [remove(2)]);
        assert_eq!(follow(&mut store, &[1, 2]), [keep(2)]);
    }

    #[test]
    fn what_it_gave_back_stays_in_it_until_nobody_wants_it() {
        let kept = [("slot 1".to_owned(), 1), ("slot 2".to_owned(), 2)];
        let mut store = Store::new(None, kept.into());
        assert_eq!(follow(&mut store, &[1, 2, 3]), [keep(3)]);
        assert_eq!(follow(&mut store, &[2, 3]), [remove(1)]);
    }

    /// Removal is by name.
    #[test]
    fn another_socket_of_a_name_comes_after_the_first_has_gone() {
        let mut store = Store::new(None, BTreeMap::new());
        follow(&mut store, &[1]);
        assert_eq!(follow(&mut store, &[11]), [remove(1), keep(11)]);
    }

    #[test]
    fn one_that_is_too_small_is_told_no_more_than_it_can_keep() {
        let mut store = Store::new(Some(2), BTreeMap::new());
        assert_eq!(follow(&mut store, &[1, 2]), [keep(1), keep(2)]);
        assert_eq!(store.too_small(), None);
        assert_eq!(follow(&mut store, &[1, 2, 3, 4]), []);
        assert_eq!(store.too_small(), Some((2, 4)));
        assert_eq!(follow(&mut store, &[1, 3, 4]), [remove(2), keep(3)]);
        assert_eq!(store.too_small(), Some((2, 3)));
        assert_eq!(follow(&mut store, &[3]), [remove(1)]);
        assert_eq!(store.too_small(), None);
    }
}
