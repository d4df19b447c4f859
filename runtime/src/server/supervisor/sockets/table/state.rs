//! What the table remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::server::Addresses;
use crate::server::line::Role;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Kind, Name};
use crate::server::supervisor::sockets::system::System;

/// The table of all listening sockets of a server.
pub(crate) struct Table<S: System> {
    pub(super) system: S,
    /// Others of this user may listen on the same addresses.
    pub(super) share_port: bool,
    pub(super) names: BTreeMap<Name, Shared<S>>,
    /// Those that were open before the server.
    pub(super) inherited: Vec<Inherited<S::Socket>>,
    /// By their identities, those that were kept from the run before and that nobody has asked for yet.
    pub(super) unasked: BTreeSet<u64>,
    /// What a name stood for when it was first asked for; the first of several is the one that is given.
    pub(super) pins: BTreeMap<Asked, Vec<SocketAddr>>,
    pub(super) workers: BTreeMap<WorkerId, Claim>,
    /// Slots whose successor is too long in coming.
    pub(super) vacant: BTreeSet<Role>,
    pub(super) loans: u64,
    pub(super) orders: Vec<Order<S::Socket>>,
}

/// A group's n-th request for the address that it wrote so. Only requests for port 0 are counted: each
/// gives another port, to all workers the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    pub(super) group: Option<usize>,
    pub(super) kind: Kind,
    /// Every address of the name.
    pub(super) all: bool,
    pub(super) text: String,
    pub(super) nth: usize,
}

/// What the slots hold of one address.
pub(super) struct Shared<S: System> {
    pub(super) group: Option<usize>,
    /// Removed before the sockets are closed, so that nobody finds it stale.
    pub(super) file: Option<S::File>,
    /// It has been told that the file is gone.
    pub(super) missing: bool,
    pub(super) only_v6: bool,
    /// Its sockets are duplicates of those that were open before the server, and others have them too.
    pub(super) inherited: bool,
    /// More than one socket may have the address.
    pub(super) shared: bool,
    /// Somebody has been given a socket of it. Before, none of them listens.
    pub(super) given: bool,
    pub(super) slots: BTreeMap<Role, Held<S>>,
}

/// A slot's socket.
pub(super) struct Held<S: System> {
    pub(super) socket: S::Socket,
    pub(super) identity: u64,
    pub(super) listening: bool,
    /// Its file is gone; who asks for it gets a new one.
    pub(super) outdated: bool,
    /// The living workers that have asked for it.
    pub(super) workers: BTreeSet<WorkerId>,
    pub(super) loan: Option<Loan>,
}

/// A socket that was passed, and listens if it is to.
pub(crate) struct Inherited<T> {
    /// What whoever passed it calls it.
    pub(crate) called: String,
    /// Where it is bound.
    pub(crate) name: Name,
    /// It leaves IPv4 alone.
    pub(crate) only_v6: bool,
    pub(crate) socket: T,
    pub(crate) identity: u64,
    pub(crate) taken: bool,
}

/// A sibling accepts from a slot's socket beside its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loan {
    pub(super) id: u64,
    pub(super) to: WorkerId,
    /// Which of the sibling's accept loops.
    pub(super) serving: u64,
}

/// Who accepts from a role's socket.
#[cfg(feature = "monitor")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// Its own worker.
    Held,
    /// That of this role.
    LentTo(Role),
    /// Nobody; it doesn't listen.
    Parked,
    /// Nobody; connections wait for the next worker.
    Waiting,
}

/// What a worker is to be told of loans, which it takes beside its own sockets.
#[derive(Debug, PartialEq)]
pub(crate) enum Order<T> {
    /// One of its accept loops is to accept from this socket too.
    Lend {
        to: WorkerId,
        serving: u64,
        loan: u64,
        socket: T,
    },
    /// That accept loop is to let go of it.
    TakeBack {
        from: WorkerId,
        serving: u64,
        loan: u64,
    },
}

/// What a living worker has asked for.
pub(super) struct Claim {
    pub(super) slot: Role,
    pub(super) ready: bool,
    /// Told to stop, or killed: it accepts no more, for however long it stays.
    pub(super) leaving: bool,
    pub(super) closed: bool,
    pub(super) ephemeral: BTreeMap<(Kind, bool, String), usize>,
    /// Its accept loops that can take loans, and what each accepts from on its own.
    pub(super) serving: BTreeMap<u64, BTreeSet<Name>>,
    /// Those of them that may have no more connections open.
    pub(super) full: BTreeSet<u64>,
    /// Its event loop doesn't turn.
    pub(super) blocked: bool,
}

impl Claim {
    /// Whether it could accept what arrives at this name, as far as can be known.
    pub(super) fn is_able(&self, name: &Name) -> bool {
        let mut serving = self
            .serving
            .iter()
            .filter(|(_, names)| names.contains(name));
        let mut is_full = serving
            .clone()
            .map(|(serving, _)| self.full.contains(serving));
        !self.blocked && (serving.next().is_none() || is_full.any(|full| !full))
    }

    /// Whether this accept loop can take loans, now or later.
    pub(super) fn can_borrow(&self, serving: u64) -> bool {
        !self.leaving && !self.closed && self.serving.contains_key(&serving)
    }

    /// Whether it can take loans now.
    pub(super) fn borrows(&self, serving: u64) -> bool {
        self.can_borrow(serving) && !self.blocked && !self.full.contains(&serving)
    }
}

impl<S: System> Table<S> {
    /// With `share_port`, other processes of the same user may listen on the same addresses.
    pub(crate) fn new(system: S, share_port: bool) -> Table<S> {
        Table {
            system,
            share_port,
            names: BTreeMap::new(),
            inherited: Vec::new(),
            unasked: BTreeSet::new(),
            pins: BTreeMap::new(),
            workers: BTreeMap::new(),
            vacant: BTreeSet::new(),
            loans: 0,
            orders: Vec::new(),
        }
    }

    /// What is listened on, for the log.
    pub(crate) fn names(&self) -> impl Iterator<Item = impl fmt::Display> {
        let given = self.names.iter().filter(|(_, shared)| shared.given);
        given.map(|(name, _)| name)
    }

    /// What is listened on, and what becomes of each role's socket there.
    #[cfg(feature = "monitor")]
    pub(crate) fn holders(&self) -> Vec<(String, Vec<(Role, Holding)>)> {
        let given = self.names.iter().filter(|(_, shared)| shared.given);
        let seen = given.map(|(name, shared)| {
            let held = shared.slots.iter().map(|(role, held)| {
                let holding = match held.loan {
                    Some(loan) => match self.workers.get(&loan.to) {
                        Some(claim) => Holding::LentTo(claim.slot),
                        None => Holding::Waiting,
                    },
                    None if !held.listening => Holding::Parked,
                    None if held.is_held(&self.workers) => Holding::Held,
                    None => Holding::Waiting,
                };
                (*role, holding)
            });
            (name.to_string(), held.collect())
        });
        seen.collect()
    }

    /// Where that is, by what was asked for.
    pub(crate) fn addresses(&self) -> Addresses {
        let mut inet = Vec::new();
        for (asked, addresses) in &self.pins {
            let given = addresses.iter().filter(|address| {
                let shared = self.names.get(&Name::Inet(asked.kind, **address));
                shared.is_some_and(|shared| shared.given)
            });
            inet.extend(given.map(|address| (asked.text.clone(), *address)));
        }
        let unix = self.names.keys().filter_map(|name| match name {
            Name::Unix(path) => Some(path.clone()),
            Name::Inet(..) | Name::Abstract(_) => None,
        });
        Addresses::new(inet, unix)
    }
}

impl<S: System> Shared<S> {
    /// Whether no other slot has the very same socket.
    pub(super) fn has_alone(&self, slot: Role) -> bool {
        let identity = self.slots.get(&slot).map(|held| held.identity);
        let same = |held: &&Held<S>| Some(held.identity) == identity;
        self.slots.values().filter(same).count() == 1
    }

    /// Whether another slot's worker, which stays, has the very same socket.
    pub(super) fn has_another(
        &self,
        held: &Held<S>,
        name: &Name,
        claims: &BTreeMap<WorkerId, Claim>,
    ) -> bool {
        let is_same = |other: &&Held<S>| other.identity == held.identity;
        let mut same = self.slots.values().filter(is_same);
        self.inherited && same.any(|other| other.is_in_hand(name, claims))
    }
}

impl<S: System> Held<S> {
    /// Whether somebody has it who stays.
    pub(super) fn is_held(&self, claims: &BTreeMap<WorkerId, Claim>) -> bool {
        let stays = |worker| claims.get(worker).is_some_and(|claim| !claim.leaving);
        self.workers.iter().any(stays)
    }

    /// Whether one of them can accept from it, now or once it has begun to.
    pub(super) fn is_in_hand(&self, name: &Name, claims: &BTreeMap<WorkerId, Claim>) -> bool {
        let able = |worker| {
            let claim: Option<&Claim> = claims.get(worker);
            claim.is_some_and(|claim| !claim.leaving && claim.is_able(name))
        };
        self.workers.iter().any(able)
    }

    /// Whether somebody who stays accepts from it, as far as can be known.
    pub(super) fn is_attended(&self, name: &Name, claims: &BTreeMap<WorkerId, Claim>) -> bool {
        self.workers.iter().any(|worker| {
            claims.get(worker).is_some_and(|claim| {
                let serves = claim.serving.values().any(|names| names.contains(name));
                !claim.leaving && claim.is_able(name) && (claim.ready || serves)
            })
        })
    }

    /// A duplicate for somebody who is going to accept.
    pub(super) fn give(&mut self, system: &mut S) -> io::Result<S::Socket> {
        let given = system.duplicate(&self.socket)?;
        self.listen(system)?;
        Ok(given)
    }

    pub(super) fn listen(&mut self, system: &mut S) -> io::Result<()> {
        if !self.listening {
            system.listen(&self.socket)?;
            self.listening = true;
        }
        Ok(())
    }
}

/// Roles that may share an address: the workers with each other, an extra with nobody.
pub(super) fn group_of(role: Role) -> Option<usize> {
    match role {
        Role::Slot(_) => None,
        Role::Extra(index) => Some(index),
    }
}
