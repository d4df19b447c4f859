//! Sockets that were open before the server: passed by a service manager, which has them too.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::asking::cannot;
use super::state::{Inherited, Table};
use crate::server::line::Role;
use crate::server::report;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Kind, Name};
use crate::server::supervisor::sockets::system::System;

impl<S: System> Table<S> {
    /// To be called before any worker asks.
    pub(crate) fn inherit(&mut self, sockets: Vec<Inherited<S::Socket>>) {
        self.inherited = sockets;
    }

    /// A TCP listener that was passed as `called`. Of several on one address each slot has its own. The addresses of
    /// several are those of one name, as for [`listen`](Self::listen).
    pub(crate) fn listen_named(&mut self, worker: WorkerId, called: &str) -> io::Result<S::Socket> {
        let meant = self.inherited.iter().filter(|it| it.called == called);
        let addresses: Vec<SocketAddr> = meant.filter_map(tcp).collect();
        if addresses.is_empty() {
            let names: BTreeSet<&str> = self
                .inherited
                .iter()
                .filter(|it| tcp(it).is_some())
                .map(|it| it.called.as_str())
                .collect();
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let there_are = match names.is_empty() {
                true => "systemd has passed no TCP sockets".to_owned(),
                false => format!(
                    "the TCP sockets that systemd has passed are {}",
                    names.join(", ")
                ),
            };
            let error = io::Error::new(io::ErrorKind::NotFound, there_are);
            return Err(cannot(
                "listen on the socket named",
                format_args!("`{called}`"),
                &error,
            ));
        }
        self.inet(worker, Kind::Tcp, called, &addresses, true)
            .map_err(|error| {
                cannot(
                    "listen on the socket named",
                    format_args!("`{called}`"),
                    &error,
                )
            })
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

fn tcp<T>(inherited: &Inherited<T>) -> Option<SocketAddr> {
    match inherited.name.inet()? {
        (Kind::Tcp, address) => Some(address),
        (Kind::Udp, _) => None,
    }
}

#[cfg(test)]
mod tests;
