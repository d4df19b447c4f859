//! All sockets for a successor of the supervisor, and there the table as its predecessor had it.

use std::io;
use std::net::SocketAddr;

use super::state::{Asked, Held, Inherited, Shared, Table, group_of};
use crate::server::line::Role;
use crate::server::supervisor::sockets::name::{Kind, Name};
use crate::server::supervisor::sockets::system::System;

/// What a supervisor leaves to its successor. Both have it until one of them ends.
pub(crate) struct Estate<T> {
    pub(crate) sockets: Vec<Handed<T>>,
    pub(crate) pins: Vec<Pinned>,
    pub(crate) inherited: Vec<Inherited<T>>,
}

/// A role's socket.
pub(crate) struct Handed<T> {
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) only_v6: bool,
    /// It was open before the first of the supervisors.
    pub(crate) inherited: bool,
    pub(crate) shared: bool,
    pub(crate) given: bool,
    pub(crate) listening: bool,
    /// What tells the file of a Unix socket, if whoever takes over is to remove it.
    pub(crate) file: Option<(u64, u64)>,
    pub(crate) socket: T,
}

/// What a name stands for, to the workers or to an extra.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) extra: Option<usize>,
    pub(crate) kind: Kind,
    pub(crate) all: bool,
    pub(crate) text: String,
    pub(crate) nth: usize,
    pub(crate) addresses: Vec<SocketAddr>,
}

#[cfg_attr(not(feature = "process"), expect(dead_code))]
impl<S: System> Table<S> {
    /// Duplicates of everything that there is.
    pub(crate) fn estate(&mut self) -> io::Result<Estate<S::Socket>> {
        let system = &mut self.system;
        let mut sockets = Vec::new();
        for (name, shared) in &self.names {
            let file = shared.file.as_ref().map(|file| system.file_identity(file));
            for (role, held) in shared.slots.iter().filter(|(_, held)| !held.outdated) {
                sockets.push(Handed {
                    name: name.clone(),
                    role: *role,
                    only_v6: shared.only_v6,
                    inherited: shared.inherited,
                    shared: shared.shared,
                    given: shared.given,
                    listening: held.listening,
                    file,
                    socket: system.duplicate(&held.socket)?,
                });
            }
        }
        let mut inherited = Vec::new();
        for it in &self.inherited {
            inherited.push(Inherited {
                called: it.called.clone(),
                name: it.name.clone(),
                only_v6: it.only_v6,
                socket: system.duplicate(&it.socket)?,
                identity: it.identity,
                taken: it.taken,
            });
        }
        let pins = self.pins.iter().map(|(asked, addresses)| Pinned {
            extra: asked.group,
            kind: asked.kind,
            all: asked.all,
            text: asked.text.clone(),
            nth: asked.nth,
            addresses: addresses.clone(),
        });
        Ok(Estate {
            sockets,
            pins: pins.collect(),
            inherited,
        })
    }

    /// The table as the predecessor had it, before any worker asks: what they ask for is there already.
    pub(crate) fn succeed(&mut self, estate: Estate<S::Socket>) -> io::Result<()> {
        for handed in estate.sockets {
            let identity = self.system.identity(&handed.socket)?;
            let Handed {
                name, role, file, ..
            } = handed;
            let shared = self.names.entry(name.clone()).or_insert_with(|| Shared {
                group: group_of(role),
                file: None,
                missing: false,
                only_v6: handed.only_v6,
                inherited: handed.inherited,
                shared: handed.shared,
                given: handed.given,
                handed: true,
                slots: Default::default(),
            });
            if let (Some(file), None, Name::Unix(path)) = (file, &shared.file, &name) {
                shared.file = Some(self.system.file_of_another(path, file));
            }
            let held = Held {
                socket: handed.socket,
                identity,
                listening: handed.listening,
                outdated: false,
                workers: Default::default(),
                loan: None,
            };
            shared.slots.insert(role, held);
        }
        for pinned in estate.pins {
            let asked = Asked {
                group: pinned.extra,
                kind: pinned.kind,
                all: pinned.all,
                text: pinned.text,
                nth: pinned.nth,
            };
            self.pins.insert(asked, pinned.addresses);
        }
        self.inherited.extend(estate.inherited);
        self.shares = true;
        Ok(())
    }

    /// Whether another supervisor has the same sockets: while it does, none of them is parked.
    pub(crate) fn share_with_another(&mut self, shares: bool) {
        self.shares = shares;
        if !shares {
            for shared in self.names.values_mut() {
                shared.handed = false;
            }
            self.lend_and_park();
        }
    }

    /// Whether this supervisor removes the files of Unix sockets at its end.
    pub(crate) fn own_files(&mut self, own: bool) {
        for shared in self.names.values_mut() {
            if let Some(file) = &mut shared.file {
                self.system.own(file, own);
            }
        }
    }

    /// Closes what was handed over and nobody has asked for.
    pub(crate) fn close_orphans(&mut self, is_a_role: impl Fn(Role) -> bool) {
        let mut closed = Vec::new();
        for shared in self.names.values_mut().filter(|shared| shared.handed) {
            let orphans: Vec<Role> = shared
                .slots
                .keys()
                .copied()
                .filter(|role| !is_a_role(*role))
                .collect();
            for role in orphans {
                closed.extend(shared.slots.remove(&role));
            }
        }
        self.take_back_all(closed);
        self.settle();
        let names = &self.names;
        self.inherited.retain(|it| {
            let held = names.get(&it.name).into_iter();
            let mut held = held.flat_map(|shared| shared.slots.values());
            held.any(|held| held.identity == it.identity)
        });
    }
}

impl<S: System> Shared<S> {
    /// What was handed over to other roles than those that now ask for it, and nobody has asked for yet, is theirs.
    pub(super) fn adopt(&mut self, role: Role) {
        let group = group_of(role);
        let is_held = self.slots.values().any(|held| !held.workers.is_empty());
        if !self.handed || self.group == group || is_held {
            return;
        }
        self.group = group;
        let held = std::mem::take(&mut self.slots).into_values();
        let roles = (0..).map(|nth| match role {
            Role::Slot(_) => Role::Slot(nth),
            Role::Extra(_) => role,
        });
        self.slots = roles.zip(held).collect();
    }
}

#[cfg(test)]
mod tests;
