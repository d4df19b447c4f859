//! A worker's life: what it holds from its start to its end, and what becomes of its slot's sockets.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Claim, Held, Table};
use crate::server::line::Role;
use crate::server::report;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Kind, Name};
use crate::server::supervisor::sockets::system::System;

impl<S: System> Table<S> {
    /// A worker is started in `slot`; only now may it ask.
    pub(crate) fn begin(&mut self, worker: WorkerId, slot: Role) {
        self.vacant.remove(&slot);
        let claim = Claim {
            slot,
            ready: false,
            leaving: false,
            closed: false,
            ephemeral: BTreeMap::new(),
            serving: BTreeMap::new(),
            full: BTreeSet::new(),
            blocked: false,
        };
        self.workers.insert(worker, claim);
    }

    /// A worker is ready: what its slot holds and it hasn't asked for is closed, and vacant slots leave
    /// their connections to it.
    pub(crate) fn ready(&mut self, worker: WorkerId) {
        let Some(claim) = self.workers.get_mut(&worker) else {
            return;
        };
        claim.ready = true;
        let slot = claim.slot;
        self.vacant.remove(&slot);
        let mut closed = Vec::new();
        for (name, shared) in &mut self.names {
            let Some(held) = shared.slots.get(&slot) else {
                continue;
            };
            if !held.workers.contains(&worker) {
                closed.extend(shared.slots.remove(&slot));
            } else if !shared.given {
                report::log!(
                    warn,
                    "{name} is one of several addresses of a name; nothing listens there, because only `Worker::serve` \
                     accepts from all of them"
                );
            }
        }
        self.take_back_all(closed);
        self.settle();
        self.lend_and_park();
    }

    /// A worker is on its way out. It may keep its sockets, but doesn't keep its slot's from being lent or parked.
    pub(crate) fn leaving(&mut self, worker: WorkerId) {
        if let Some(claim) = self.workers.get_mut(&worker) {
            claim.leaving = true;
        }
        self.lend_and_park();
    }

    /// A worker is gone; its slot's sockets stay.
    pub(crate) fn ended(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        for shared in self.names.values_mut() {
            for held in shared.slots.values_mut() {
                held.workers.remove(&worker);
            }
        }
        self.lend_and_park();
    }

    /// Takes a slot without a worker that stays out of the kernel's choice wherever a sibling serves, now or later,
    /// until a successor asks. What waits in its backlog is reset, unless a sibling accepts it.
    pub(crate) fn park(&mut self, slot: Role) {
        self.vacant.insert(slot);
        self.lend_and_park();
    }

    /// Closes all that a slot holds, so that its worker's own drop ends the port; that worker gets no more. Of a socket that
    /// was passed the last slot is the last to hold it.
    pub(crate) fn close(&mut self, slot: Role) {
        self.vacant.remove(&slot);
        for claim in self.workers.values_mut().filter(|claim| claim.slot == slot) {
            claim.closed = true;
        }
        let mut closed = Vec::new();
        for shared in self.names.values_mut() {
            // Whoever passed it listens on, so that a sibling has to accept from it.
            let stays = shared.inherited && shared.slots.len() > 1 && shared.has_alone(slot);
            match shared.slots.get_mut(&slot).filter(|_| stays) {
                Some(held) => held.workers.clear(),
                None => closed.extend(shared.slots.remove(&slot)),
            }
        }
        self.take_back_all(closed);
        self.settle();
    }

    /// Tells which Unix sockets can't be reached any more because their files are gone. With `renew`, workers that
    /// ask for such a socket from now on get a new one.
    pub(crate) fn look_after_files(&mut self, renew: bool) {
        for (name, shared) in &mut self.names {
            let is_gone = |file: &S::File| !self.system.is_in_place(file);
            if !shared.file.as_ref().is_some_and(is_gone) {
                continue;
            }
            if renew {
                report::log!(
                    warn,
                    "the file of the socket {name} is gone; the next worker makes it again"
                );
                shared.file = None;
                for held in shared.slots.values_mut() {
                    held.outdated = true;
                }
            } else if !shared.missing {
                shared.missing = true;
                report::log!(
                    warn,
                    "the file of the socket {name} is gone, so nobody can connect; SIGHUP makes it again"
                );
            }
        }
    }

    fn lend_and_park(&mut self) {
        self.lend_and_take_back();
        if S::BALANCES {
            self.park_vacant();
        }
    }

    fn park_vacant(&mut self) {
        let claims = &self.workers;
        for (name, shared) in &mut self.names {
            // A socket that somebody else has too would be shut for them.
            let Some((kind, _)) = name.inet().filter(|_| !shared.inherited) else {
                continue;
            };
            let is_served = |held: &Held<S>| held.listening && held.is_held(claims);
            if !shared.slots.values().any(is_served) {
                continue;
            }
            // To a sibling that is only full, or blocked, later.
            let can_be_lent = claims.values().any(|claim| {
                let mut serving = claim.serving.iter();
                serving.any(|(serving, names)| names.contains(name) && claim.can_borrow(*serving))
            });
            for slot in &self.vacant {
                let idle = |held: &&mut Held<S>| !held.is_held(claims) && held.loan.is_none();
                match (kind, shared.slots.get_mut(slot).filter(idle)) {
                    // Datagrams have no backlog that would be worth keeping the socket for.
                    (Kind::Udp, Some(_)) => drop(shared.slots.remove(slot)),
                    (Kind::Tcp, Some(held)) if held.listening && !can_be_lent => {
                        match self.system.park(&held.socket) {
                            Ok(()) => held.listening = false,
                            Err(error) => {
                                report::log!(warn, %name, ?slot, %error, "cannot park a listening socket")
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// To follow every removal. What no slot holds is another's to bind, so nothing is known about it any
    /// more; what is held listens, if only for a successor.
    pub(super) fn settle(&mut self) {
        self.names.retain(|_, shared| !shared.slots.is_empty());
        let names = &self.names;
        self.pins.retain(|asked, addresses| {
            let is_held = |address| names.contains_key(&Name::Inet(asked.kind, address));
            addresses.iter().copied().any(is_held)
        });
        for (name, shared) in &mut self.names {
            if shared.given && shared.slots.values().all(|held| !held.listening) {
                for held in shared.slots.values_mut() {
                    if let Err(error) = held.listen(&mut self.system) {
                        report::log!(warn, %name, %error, "cannot listen again");
                    }
                }
            }
        }
        self.lend_and_take_back();
    }
}
