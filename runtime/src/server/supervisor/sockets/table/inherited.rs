//! Sockets that were open before the server: passed by a service manager, which has them too.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::asking::cannot;
use super::state::{Inherited, Table};
use crate::server::line::{Passed, Role};
use crate::server::report;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Kind, Name};
use crate::server::supervisor::sockets::system::System;

impl<S: System> Table<S> {
    /// To be called before any worker asks.
    pub(crate) fn inherit(&mut self, sockets: Vec<Inherited<S::Socket>>) {
        self.inherited = sockets;
    }

    /// A socket of this kind that was passed as `called`. Of several on one address each slot has its own. The TCP addresses
    /// of several are those of one name, as for [`listen`](Self::listen).
    pub(crate) fn named(
        &mut self,
        worker: WorkerId,
        kind: Passed,
        called: &str,
    ) -> io::Result<S::Socket> {
        self.try_named(worker, kind, called).map_err(|error| {
            cannot(
                "listen on the socket named",
                format_args!("`{called}`"),
                &error,
            )
        })
    }

    fn try_named(&mut self, worker: WorkerId, kind: Passed, called: &str) -> io::Result<S::Socket> {
        let of_kind = self.inherited.iter().filter(|it| passed(&it.name) == kind);
        let meant = of_kind.clone().filter(|it| it.called == called);
        let mut names: Vec<Name> = Vec::new();
        for it in meant {
            if !names.contains(&it.name) {
                names.push(it.name.clone());
            }
        }
        let Some(first) = names.first() else {
            let names = of_kind.map(|it| format!("`{}`", it.called));
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                match listed(names) {
                    names if names.is_empty() => format!("systemd has passed no {kind} sockets"),
                    names => format!("the {kind} sockets that systemd has passed are {names}"),
                },
            ));
        };
        if kind != Passed::Tcp && names.len() > 1 {
            let names = listed(names.iter().map(Name::to_string));
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("it is the name of several: {names}; ask for each by its address"),
            ));
        }
        let kind = match first {
            Name::Inet(kind, _) => *kind,
            Name::Unix(_) | Name::Abstract(_) => return self.unix(worker, first, 0),
        };
        let addresses = names.iter().filter_map(|name| Some(name.inet()?.1));
        let addresses: Vec<SocketAddr> = addresses.collect();
        self.inet(worker, kind, called, &addresses, kind == Kind::Tcp)
    }

    /// Closes what nobody has asked for.
    pub(crate) fn close_unasked(&mut self) {
        let all = std::mem::take(&mut self.inherited);
        let (taken, unasked): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.taken);
        self.inherited = taken;
        for unasked in unasked {
            let Inherited {
                called,
                name,
                socket,
                ..
            } = unasked;
            drop(socket);
            report::log!(
                warn,
                %name,
                "no worker has asked for the socket `{called}` on {name}, which systemd has passed; it is closed"
            );
        }
        self.close_kept();
    }

    /// Which of the sockets that were passed is the slot's for this name: one of its own while there are some.
    pub(super) fn inherited_for(&self, slot: Role, name: &Name) -> Option<usize> {
        let of_name = |nth: &usize| self.inherited[*nth].name == *name;
        let fitting: Vec<usize> = (0..self.inherited.len()).filter(of_name).collect();
        let shared = self.names.get(name);
        let held: BTreeSet<u64> = shared
            .iter()
            .flat_map(|shared| shared.slots.values())
            .map(|held| held.identity)
            .collect();
        let is_free = |nth: &&usize| !held.contains(&self.inherited[**nth].identity);
        let its_share = slot.index().unwrap_or(0) % fitting.len().max(1);
        let free = fitting.iter().find(is_free);
        free.or_else(|| fitting.get(its_share)).copied()
    }

    /// Where a socket is bound that was passed and takes the connections of this address.
    pub(super) fn bound_instead(&self, kind: Kind, address: SocketAddr) -> SocketAddr {
        let is_passed = |at| {
            self.inherited
                .iter()
                .any(|it| it.name == Name::Inet(kind, at))
        };
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        let takes_v4 = |it: &Inherited<S::Socket>| it.name == Name::Inet(kind, any) && !it.only_v6;
        let is_any = address.is_ipv4() && address.ip().is_unspecified();
        match is_any && !is_passed(address) && self.inherited.iter().any(takes_v4) {
            true => any,
            false => address,
        }
    }
}

fn passed(name: &Name) -> Passed {
    match name {
        Name::Inet(Kind::Tcp, _) => Passed::Tcp,
        Name::Inet(Kind::Udp, _) => Passed::Udp,
        Name::Unix(_) | Name::Abstract(_) => Passed::Unix,
    }
}

/// Each once, in their order.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: BTreeSet<String> = names.collect();
    let names: Vec<String> = names.into_iter().collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
