//! Who accepts in the place of a worker that can't.
//!
//! The socket of a slot of which no worker stays, or none can accept because it is full or its event loop is blocked, is lent
//! to a sibling that serves the same address with an accept loop of ours, so that nobody waits in its backlog and nobody is
//! reset. It is taken back when a worker of the slot accepts
//! again. Both have the same socket, so that what one leaves waiting the other takes.

use super::state::{Held, Loan, Order, Table};
use crate::server::report;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Kind, Name};
use crate::server::supervisor::sockets::system::System;

impl<S: System> Table<S> {
    /// The name of the socket with this [identity](System::identity), if the worker was given it.
    pub(crate) fn name_of(&self, worker: WorkerId, identity: u64) -> Option<&Name> {
        let slot = self.workers.get(&worker)?.slot;
        self.names.iter().find_map(|(name, shared)| {
            let held = shared.slots.get(&slot)?;
            (held.identity == identity && held.workers.contains(&worker)).then_some(name)
        })
    }

    /// An accept loop of a worker, `serving`, accepts from the socket with this [identity](System::identity), and can take
    /// others. It gets the further addresses of the name that it has asked for.
    pub(crate) fn accepts(&mut self, worker: WorkerId, serving: u64, identity: u64) {
        let own = self.name_of(worker, identity).and_then(Name::inet);
        let Some((Kind::Tcp, first)) = own else {
            return;
        };
        let Some(claim) = self.workers.get_mut(&worker).filter(|claim| !claim.closed) else {
            return;
        };
        let slot = claim.slot;

        let mut names = vec![Name::Inet(Kind::Tcp, first)];
        for pinned in self.pins.values().filter(|to| to.first() == Some(&first)) {
            names.extend(pinned[1..].iter().map(|at| Name::Inet(Kind::Tcp, *at)));
        }
        for name in &names[1..] {
            let Some(shared) = self.names.get_mut(name) else {
                continue;
            };
            let Some(held) = shared.slots.get_mut(&slot) else {
                continue;
            };
            if !held.workers.contains(&worker) {
                continue;
            }
            match held.give(&mut self.system) {
                Ok(socket) => {
                    shared.given = true;
                    self.loans += 1;
                    self.orders.push(Order::Lend {
                        to: worker,
                        serving,
                        loan: self.loans,
                        socket,
                    });
                }
                Err(error) => report::log!(error, "cannot listen on {name}: {error}"),
            }
        }
        claim.serving.insert(serving, names.into_iter().collect());
        self.lend_and_take_back();
    }

    /// An accept loop has ended, and let go of all that it had.
    pub(crate) fn accepts_no_more(&mut self, worker: WorkerId, serving: u64) {
        if let Some(claim) = self.workers.get_mut(&worker) {
            claim.serving.remove(&serving);
            claim.full.remove(&serving);
        }
        self.lend_and_take_back();
    }

    /// An accept loop may have no more connections open, or may again.
    pub(crate) fn full(&mut self, worker: WorkerId, serving: u64, full: bool) {
        let Some(claim) = self.workers.get_mut(&worker) else {
            return;
        };
        match full && claim.serving.contains_key(&serving) {
            true => _ = claim.full.insert(serving),
            false => _ = claim.full.remove(&serving),
        }
        self.lend_and_take_back();
    }

    /// A worker's event loop doesn't turn, or does again.
    pub(crate) fn blocked(&mut self, worker: WorkerId, blocked: bool) {
        match self.workers.get_mut(&worker) {
            Some(claim) if claim.blocked != blocked => claim.blocked = blocked,
            _ => return,
        }
        self.lend_and_take_back();
    }

    /// What the workers are to be told, in turn.
    pub(crate) fn take_orders(&mut self) -> Vec<Order<S::Socket>> {
        std::mem::take(&mut self.orders)
    }

    /// Lends what nobody attends to, and takes back what is attended to again or whose borrower is on its way out.
    pub(super) fn lend_and_take_back(&mut self) {
        for (name, shared) in &mut self.names {
            for held in shared.slots.values_mut() {
                let Some(loan) = held.loan else { continue };
                let borrower = self.workers.get(&loan.to);
                let accepts = borrower.is_some_and(|claim| claim.borrows(loan.serving));
                if !accepts || held.is_attended(name, &self.workers) {
                    held.loan = None;
                    self.orders.push(loan.taken_back());
                }
            }
        }
        if !S::BALANCES {
            return;
        }
        let idle: Vec<_> = self
            .names
            .iter()
            .flat_map(|(name, shared)| {
                let claims = &self.workers;
                let idle = move |held: &Held<S>| {
                    let is_idle =
                        held.listening && held.loan.is_none() && !held.is_in_hand(name, claims);
                    is_idle && !shared.has_another(held, name, claims)
                };
                let slots = shared.slots.iter().filter(move |(_, held)| idle(held));
                slots.map(move |(slot, _)| (name.clone(), *slot))
            })
            .collect();
        for (name, slot) in idle {
            let Some((to, serving)) = self.stand_in(&name) else {
                continue;
            };
            let Some(held) = self
                .names
                .get_mut(&name)
                .and_then(|shared| shared.slots.get_mut(&slot))
            else {
                continue;
            };
            match self.system.duplicate(&held.socket) {
                Ok(socket) => {
                    self.loans += 1;
                    let loan = self.loans;
                    held.loan = Some(Loan {
                        id: loan,
                        to,
                        serving,
                    });
                    self.orders.push(Order::Lend {
                        to,
                        serving,
                        loan,
                        socket,
                    });
                }
                Err(error) => {
                    report::log!(warn, %name, ?slot, %error, "cannot lend a listening socket");
                }
            }
        }
    }

    /// The worker of the same address that has the fewest loans.
    fn stand_in(&self, name: &Name) -> Option<(WorkerId, u64)> {
        let shared = self.names.get(name)?;
        let accepting = shared.slots.values().flat_map(|held| &held.workers);
        let willing = accepting.filter_map(|worker| {
            let claim = self.workers.get(worker)?;
            let mut serving = claim.serving.iter();
            let (serving, _) = serving
                .find(|(serving, names)| names.contains(name) && claim.borrows(**serving))?;
            Some((*worker, *serving))
        });
        willing.min_by_key(|(worker, _)| (self.loans_of(*worker), *worker))
    }

    fn loans_of(&self, worker: WorkerId) -> usize {
        let held = self.names.values().flat_map(|shared| shared.slots.values());
        held.filter(|held| held.loan.is_some_and(|loan| loan.to == worker))
            .count()
    }

    /// Of sockets that their slots no longer have.
    pub(super) fn take_back_all(&mut self, closed: Vec<Held<S>>) {
        let loans = closed.into_iter().filter_map(|held| held.loan);
        self.orders.extend(loans.map(Loan::taken_back));
    }
}

impl Loan {
    fn taken_back<T>(self) -> Order<T> {
        Order::TakeBack {
            from: self.to,
            serving: self.serving,
            loan: self.id,
        }
    }
}
