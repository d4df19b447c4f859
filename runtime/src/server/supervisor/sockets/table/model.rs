//! Whatever the workers of three slots do, each connection has somebody who accepts it, if anybody can.

use super::fake::*;

use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::{Order, Table};
use crate::server::line::Role;
use crate::server::supervisor::policy::WorkerId;
use crate::server::supervisor::sockets::name::{Kind, Name};

const TEXT: &str = "localhost:80";
const ADDRESSES: [&str; 2] = ["[::1]:80", "127.0.0.1:80"];

/// A slot, or the living worker at that place.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    Listen(usize),
    Serve(usize),
    StopServing(usize),
    Unlisten(usize),
    Ready(usize),
    Leave(usize),
    End(usize),
    Park(usize),
    Close(usize),
    Full(usize, bool),
    Block(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..4_usize;
    prop_oneof![
        at().prop_map(Step::Start),
        at().prop_map(Step::Listen),
        at().prop_map(Step::Serve),
        at().prop_map(Step::Serve),
        at().prop_map(Step::StopServing),
        at().prop_map(Step::Unlisten),
        at().prop_map(Step::Ready),
        at().prop_map(Step::Leave),
        at().prop_map(Step::End),
        at().prop_map(Step::Park),
        at().prop_map(Step::Close),
        (at(), any::<bool>()).prop_map(|(at, full)| Step::Full(at, full)),
        (at(), any::<bool>()).prop_map(|(at, blocked)| Step::Block(at, blocked)),
    ]
}

/// A worker, and what it has open.
struct Living {
    id: WorkerId,
    slot: Role,
    ready: bool,
    leaving: bool,
    closed: bool,
    full: bool,
    blocked: bool,
    has: Option<Socket>,
    /// Its accept loop: the first socket, and what was lent to it.
    serving: Option<BTreeMap<u64, Socket>>,
}

impl Living {
    fn can_borrow(&self) -> bool {
        self.serving.is_some() && !self.leaving && !self.closed && self.is_able()
    }

    fn is_able(&self) -> bool {
        !self.blocked && !self.full
    }

    fn accepts_from(&self, socket: &Socket) -> bool {
        let lent = self.serving.iter().flat_map(BTreeMap::values);
        lent.chain(&self.has).any(|has| has.id == socket.id)
    }
}

struct World {
    table: Table<Fake>,
    living: Vec<Living>,
    next: u64,
}

impl World {
    fn take(&mut self, step: Step) {
        let count = self.living.len();
        match step {
            Step::Start(at) => {
                let (id, slot) = (WorkerId(self.next), Role::Slot(at % 3));
                self.next += 1;
                self.table.begin(id, slot);
                self.living.push(Living {
                    id,
                    slot,
                    ready: false,
                    leaving: false,
                    closed: false,
                    full: false,
                    blocked: false,
                    has: None,
                    serving: None,
                });
            }
            Step::Park(at) => self.table.park(Role::Slot(at % 3)),
            Step::Close(at) => {
                self.table.close(Role::Slot(at % 3));
                let of_it = |living: &&mut Living| living.slot == Role::Slot(at % 3);
                for living in self.living.iter_mut().filter(of_it) {
                    living.closed = true;
                }
            }
            _ if count == 0 => {}
            Step::Listen(at) => {
                let living = &mut self.living[at % count];
                match listen(&mut self.table, living.id.0, TEXT, &ADDRESSES) {
                    Ok(socket) => living.has = Some(socket),
                    // The socket that it still has is in the way of the slot's next.
                    Err(error) => assert!(
                        living.closed || error.to_string().contains("in use"),
                        "{error}"
                    ),
                }
            }
            Step::Serve(at) => {
                let living = &mut self.living[at % count];
                if let (Some(has), None) = (&living.has, &living.serving) {
                    self.table.accepts(living.id, 0, has.id);
                    let shared = self.table.names.get(&has.name);
                    let held = shared.and_then(|shared| shared.slots.get(&living.slot));
                    // A sibling of its slot that was ready without it may have had it closed.
                    if held.is_some_and(|held| held.socket.id == has.id) {
                        living.serving = Some(BTreeMap::new());
                    }
                }
            }
            Step::StopServing(at) => {
                let living = &mut self.living[at % count];
                if living.serving.take().is_some() {
                    living.full = false;
                    self.table.accepts_no_more(living.id, 0);
                }
            }
            Step::Unlisten(at) => {
                let living = &mut self.living[at % count];
                if living.serving.is_none() {
                    self.table.unlisten(living.id, TEXT);
                    living.has = None;
                }
            }
            Step::Ready(at) => {
                let living = &mut self.living[at % count];
                living.ready = true;
                self.table.ready(living.id);
            }
            Step::Leave(at) => {
                let living = &mut self.living[at % count];
                living.leaving = true;
                self.table.leaving(living.id);
            }
            Step::Full(at, full) => {
                let living = &mut self.living[at % count];
                living.full = full && living.serving.is_some();
                self.table.full(living.id, 0, full);
            }
            Step::Block(at, blocked) => {
                let living = &mut self.living[at % count];
                living.blocked = blocked;
                self.table.blocked(living.id, blocked);
            }
            Step::End(at) => {
                let living = self.living.remove(at % count);
                self.table.ended(living.id);
            }
        }
        for order in self.table.take_orders() {
            let (Order::Lend { to: id, loan, .. } | Order::TakeBack { from: id, loan, .. }) = order;
            let loop_of = |living: &mut Living| living.id == id;
            let living = self
                .living
                .iter_mut()
                .find_map(|living| loop_of(living).then_some(living));
            let Some(lent) = living.and_then(|living| living.serving.as_mut()) else {
                continue;
            };
            match order {
                Order::Lend { socket, .. } => assert!(lent.insert(loan, socket).is_none()),
                Order::TakeBack { .. } => {
                    assert!(lent.remove(&loan).is_some(), "nothing to take back")
                }
            }
        }
    }

    fn check(&self) {
        for (name, shared) in &self.table.names {
            let stands_in = self.living.iter().any(|living| {
                let own = shared.slots.get(&living.slot);
                living.can_borrow() && own.is_some_and(|held| held.workers.contains(&living.id))
            });
            let listening = |held: &super::state::Held<Fake>| held.listening;
            assert!(
                !shared.given || shared.slots.values().any(listening),
                "nobody listens"
            );
            for (slot, held) in &shared.slots {
                assert_eq!(held.listening, held.socket.listening.get());
                let stays = |living: &&Living| {
                    living.slot == *slot && !living.leaving && held.workers.contains(&living.id)
                };
                let own = || self.living.iter().filter(stays);
                let lent_to = self
                    .living
                    .iter()
                    .filter(|living| living.slot != *slot && living.accepts_from(&held.socket));
                let lent_to = lent_to.count();
                assert!(lent_to <= 1, "lent twice");
                if own().any(|living| living.ready && living.is_able()) {
                    assert_eq!(lent_to, 0, "{name} of {slot:?} is attended to and lent");
                }
                if !own().any(Living::is_able) && held.listening && stands_in {
                    assert_eq!(lent_to, 1, "nobody accepts from {name} of {slot:?}");
                }
            }
        }
        for living in &self.living {
            for socket in living
                .serving
                .iter()
                .filter(|_| living.can_borrow())
                .flat_map(BTreeMap::values)
            {
                assert!(socket.listening.get(), "a loan that is parked");
            }
            if let Some(has) = living
                .has
                .as_ref()
                .filter(|_| !living.closed && !living.leaving)
            {
                let held = self
                    .table
                    .names
                    .get(&has.name)
                    .and_then(|shared| shared.slots.get(&living.slot));
                let is_own = held.is_some_and(|held| {
                    Rc::ptr_eq(&held.socket, has) && held.workers.contains(&living.id)
                });
                assert!(
                    !is_own || has.listening.get(),
                    "a living worker's socket is parked"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_somebody_accepts(
        kept in proptest::collection::btree_set(0..3_usize, 0..3),
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let mut world = World {
            table: Table::new(Fake::default(), false),
            living: Vec::new(),
            next: 0,
        };
        let kept = kept.into_iter().flat_map(|slot| ADDRESSES.map(|address| (slot, address)));
        let kept = kept.map(|(slot, address)| {
            let name = Name::Inet(Kind::Tcp, address.parse().unwrap());
            kept_of(&mut world.table.system, Role::Slot(slot), &name)
        });
        let kept = kept.collect();
        world.table.take_back(kept);
        for step in steps {
            world.take(step);
            world.check();
        }
        for slot in 0..3 {
            world.take(Step::Close(slot));
        }
        world.check();
        let open = world.table.system.open_sockets();
        let of_workers = |socket: &&Socket| world.living.iter().any(|living| living.accepts_from(socket));
        prop_assert_eq!(open.len(), open.iter().filter(of_workers).count(), "open for nobody");
    }
}
