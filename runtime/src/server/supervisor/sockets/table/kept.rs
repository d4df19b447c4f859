//! Sockets that a service manager kept for the roles of a server that is gone.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Held, Shared, Table, group_of};
use crate::server::line::Role;
use crate::server::report;
use crate::server::supervisor::sockets::name::{Name, kept_as};
use crate::server::supervisor::sockets::system::System;

/// A socket that was kept for a role.
pub(crate) struct Kept<S: System> {
    pub(crate) role: Role,
    /// Where it is bound.
    pub(crate) name: Name,
    pub(crate) only_v6: bool,
    /// More than one socket may have the address.
    pub(crate) shared: bool,
    /// It isn't parked.
    pub(crate) listening: bool,
    pub(crate) socket: S::Socket,
    pub(crate) identity: u64,
    pub(crate) file: Option<S::File>,
}

/// A socket that is worth being kept while no server runs.
pub(crate) struct Offered<'t, T> {
    role: Role,
    name: &'t Name,
    pub(crate) socket: &'t T,
}

impl<T> Offered<'_, T> {
    /// What it is called while it is kept.
    pub(crate) fn called(&self) -> String {
        kept_as(self.role, self.name)
    }
}

impl<S: System> Table<S> {
    /// Gives each role what was kept for it, as if its last worker had just died. To be called before any worker asks.
    pub(crate) fn take_back(&mut self, kept: Vec<Kept<S>>) {
        for kept in kept {
            let shared = self
                .names
                .entry(kept.name.clone())
                .or_insert_with(|| Shared {
                    group: group_of(kept.role),
                    file: None,
                    missing: false,
                    only_v6: kept.only_v6,
                    inherited: false,
                    shared: kept.shared,
                    given: false,
                    slots: BTreeMap::new(),
                });
            if shared.group != group_of(kept.role) || shared.slots.contains_key(&kept.role) {
                continue;
            }
            shared.shared &= kept.shared;
            shared.file = kept.file.or(shared.file.take());
            self.unasked.insert(kept.identity);
            let held = Held {
                socket: kept.socket,
                identity: kept.identity,
                listening: kept.listening,
                outdated: false,
                workers: BTreeSet::new(),
                loan: None,
            };
            shared.slots.insert(kept.role, held);
        }
        for (name, shared) in &mut self.names {
            if shared.slots.len() > 1 && matches!(name, Name::Inet(..)) {
                if let Err(error) = shared.share(&mut self.system) {
                    report::log!(warn, %name, %error, "cannot share the address of a socket that was kept");
                }
            }
        }
    }

    /// Closes what was kept and nobody has asked for.
    pub(super) fn close_kept(&mut self) {
        let unasked = std::mem::take(&mut self.unasked);
        let mut closed = Vec::new();
        for shared in self.names.values_mut() {
            let slots = shared.slots.iter();
            let slots = slots.filter(|(_, held)| unasked.contains(&held.identity));
            let slots: Vec<Role> = slots.map(|(role, _)| *role).collect();
            closed.extend(slots.iter().filter_map(|slot| shared.slots.remove(slot)));
        }
        self.take_back_all(closed);
        self.settle();
    }

    /// By their identities, each once: what is to be kept. Those that were passed are kept anyway.
    pub(crate) fn offered(&self) -> BTreeMap<u64, Offered<'_, S::Socket>> {
        let mut offered = BTreeMap::new();
        for (name, shared) in self.names.iter().filter(|(_, shared)| !shared.inherited) {
            for (role, held) in shared.slots.iter().filter(|(_, held)| !held.outdated) {
                if shared.given || self.unasked.contains(&held.identity) {
                    offered.entry(held.identity).or_insert(Offered {
                        role: *role,
                        name,
                        socket: &held.socket,
                    });
                }
            }
        }
        offered
    }
}

#[cfg(test)]
mod tests;
