//! Several claims on one lease over random losses of messages, late answers and crashes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::claim::{Claim, Command, Delivery, Granted, Recorded, Standing, Terms};
use crate::timer::lease::{Progress, Token};
use crate::timer::schedule::Nanos;

const MS: Nanos = 1_000_000;
const TTL: Nanos = 3_000 * MS;
const EVERY: Nanos = 500 * MS;

/// The lease, as a store keeps it.
#[derive(Default)]
struct Store {
    holder: Option<(usize, Nanos)>,
    token: u64,
    /// What was recorded first: due times count from then on.
    first: Option<Nanos>,
    last: Option<(Nanos, Progress)>,
}

/// The token of a lease, and what was recorded last.
type Taken = (Token, Option<(Nanos, Progress)>);

impl Store {
    fn hold(&mut self, now: Nanos, owner: usize) -> Option<Taken> {
        match self.holder {
            Some((holder, until)) if now < until && holder != owner => return None,
            Some((holder, until)) if now < until && holder == owner => {}
            _ => self.token += 1,
        }
        self.holder = Some((owner, now + TTL));
        Some((Token::new(self.token), self.last))
    }

    fn record(&mut self, token: Token, due: Nanos, at: Progress) -> Recorded {
        if token.get() != self.token {
            return Recorded::Stale;
        }
        self.first.get_or_insert(due);
        self.last = self.last.max(Some((due, at)));
        Recorded::Written
    }

    fn release(&mut self, token: Token) {
        if token.get() == self.token {
            self.holder = None;
        }
    }
}

/// One of those who claim the lease, with a schedule of its own and a tick that may run.
struct Node {
    claim: Claim,
    /// Answers on their way, and when they arrive.
    hold: Option<(Nanos, Result<Option<Taken>, ()>)>,
    write: Option<(Nanos, Option<(Nanos, Progress)>, Recorded)>,
    wait_until: Option<Nanos>,
    open: bool,
    next: Nanos,
    tick: Option<(Nanos, Token, Option<Nanos>)>,
}

/// What happens to a node's messages.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// How long an answer takes, in ms.
    late: u64,
    /// The request doesn't arrive, or its answer doesn't.
    lost: Option<bool>,
}

fn weather() -> impl Strategy<Value = Weather> {
    let late = prop_oneof![6 => 0..40u64, 1 => 0..2_500u64];
    let lost = prop_oneof![5 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (late, lost).prop_map(|(late, lost)| Weather { late, lost })
}

struct World {
    now: Nanos,
    store: Store,
    nodes: Vec<Node>,
    delivery: Delivery,
    started: Vec<Nanos>,
    done: BTreeSet<Nanos>,
}

impl World {
    fn new(nodes: usize, delivery: Delivery) -> World {
        let terms = Terms {
            ttl: TTL,
            grace: 100 * MS,
            delivery,
        };
        let node = |_| Node {
            claim: Claim::new(terms),
            hold: None,
            write: None,
            wait_until: None,
            open: false,
            next: 0,
            tick: None,
        };
        World {
            now: 0,
            store: Store::default(),
            nodes: (0..nodes).map(node).collect(),
            delivery,
            started: Vec::new(),
            done: BTreeSet::new(),
        }
    }

    /// Lets the node do all that it has to do now.
    fn turn(&mut self, at: usize, weather: Weather, length: u64) {
        let World {
            now,
            store,
            nodes,
            delivery,
            started,
            done,
        } = self;
        let (now, node) = (*now, &mut nodes[at]);
        let arrives = now + weather.late * MS;

        // Before a tick is polled.
        let standing = node.claim.judge(now);
        if standing != Standing::Holds {
            node.open = false;
        }
        if standing == Standing::Out {
            if let Some((due, ..)) = node.tick.take() {
                node.claim.ended(due, true);
            }
        }
        if let Some((due, _, Some(until))) = node.tick {
            if until <= now {
                node.tick = None;
                done.insert(due);
                node.claim.ended(due, false);
            }
        }
        if let Some((_, answer)) = node.hold.take_if(|(arrives, _)| *arrives <= now) {
            let granted = answer.map(|held| held.map(|(token, _)| Granted { token, left: TTL }));
            if node.claim.answered(now, granted.ok()) {
                node.open = true;
                let last = answer.ok().flatten().and_then(|(_, last)| last);
                let last = last.map_or_else(
                    || {
                        node.claim.begin(now);
                        now
                    },
                    |(due, _)| due,
                );
                node.next = (last + 1).next_multiple_of(EVERY);
            }
        }
        if let Some((_, record, how)) = node.write.take_if(|(arrives, ..)| *arrives <= now) {
            match record {
                None => node.claim.released(),
                Some((due, _)) => {
                    if let Some(due) = node.claim.recorded(now, due, how) {
                        started.push(due);
                        if let Some((_, _, until)) = &mut node.tick {
                            *until = Some(now + length * MS);
                        }
                    }
                }
            }
        }
        if node.wait_until.is_some_and(|until| until <= now) {
            node.wait_until = None;
            node.claim.changed(now);
        }
        if node.open && node.tick.is_none() && node.next <= now {
            let due = node.next;
            node.next += EVERY;
            let token = node.claim.token().unwrap();
            let at_once = node.claim.start(due, true);
            assert!(!at_once || *delivery == Delivery::AtLeastOnce);
            if at_once {
                started.push(due);
            }
            node.tick = Some((due, token, at_once.then_some(now + length * MS)));
        }
        if node.open {
            node.claim.passed(None, node.next);
        }
        while let Some(command) = node.claim.command(now) {
            let arrives_there = weather.lost != Some(false);
            match command {
                Command::Hold => {
                    let held = arrives_there.then(|| store.hold(now, at));
                    let answer = held.filter(|_| weather.lost.is_none()).ok_or(());
                    node.hold = Some((arrives, answer));
                }
                Command::Wait => node.wait_until = Some(now + TTL / 3),
                Command::Record(token, due, progress) => {
                    let how = match arrives_there {
                        true => store.record(token, due, progress),
                        false => Recorded::Failed,
                    };
                    let how = if weather.lost.is_some() {
                        Recorded::Failed
                    } else {
                        how
                    };
                    node.write = Some((arrives, Some((due, progress)), how));
                }
                Command::Release(token) => {
                    if arrives_there {
                        store.release(token);
                    }
                    node.write = Some((arrives, None, Recorded::Written));
                }
            }
        }
    }

    /// Of all, one at most may run; and one that may has the lease.
    fn check(&self) {
        let may = |node: &&Node| node.claim.standing(self.now) != Standing::Out;
        let running: Vec<&Node> = self.nodes.iter().filter(may).collect();
        assert!(
            running.len() <= 1,
            "{} may run at {}",
            running.len(),
            self.now
        );
        for node in running {
            assert_eq!(node.claim.token(), Some(Token::new(self.store.token)));
        }
        if self.delivery == Delivery::AtMostOnce {
            let once: BTreeSet<Nanos> = self.started.iter().copied().collect();
            assert_eq!(once.len(), self.started.len(), "{:?}", self.started);
        }
    }
}

const CALM: Weather = Weather {
    late: 1,
    lost: None,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_runs_at_a_time_and_none_is_lost(
        nodes in 1..4usize,
        once in any::<bool>(),
        storm in prop::collection::vec(
            (0..4usize, 1..1_500u64, weather(), 0..900u64),
            1..120,
        ),
    ) {
        let delivery = if once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
        let mut world = World::new(nodes, delivery);
        for (node, passes, weather, length) in storm {
            // The others stand still meanwhile, as stopped processes do.
            world.now += passes * MS;
            world.turn(node % nodes, weather, length);
            world.check();
        }
        // Calm again, all is made up for.
        let until = world.now + 60_000 * MS;
        while world.now < until {
            world.now += 20 * MS;
            for node in 0..nodes {
                world.turn(node, CALM, 5);
            }
            world.check();
        }
        if delivery == Delivery::AtLeastOnce {
            let first = world.store.first.unwrap();
            let mut due = (first + 1).next_multiple_of(EVERY);
            while due < until - 20_000 * MS {
                prop_assert!(world.done.contains(&due), "{} wasn't done", due / MS);
                due += EVERY;
            }
        } else {
            prop_assert!(world.started.len() > 10);
        }
    }

    /// Whoever leaves gives the lease up, and the next one has it at once.
    #[test]
    fn a_clean_end_hands_over(length in 0..900u64, late in 0..40u64) {
        let mut world = World::new(2, Delivery::AtLeastOnce);
        for _ in 0..200 {
            world.now += 10 * MS;
            world.turn(0, Weather { late, lost: None }, length);
        }
        world.nodes[0].claim.leave();
        while !world.nodes[0].claim.has_left() {
            world.now += 10 * MS;
            prop_assert!(world.now < 5_000 * MS);
            world.turn(0, Weather { late, lost: None }, length);
            world.nodes[0].open = false;
        }
        prop_assert_eq!(world.store.holder, None);
        world.turn(1, CALM, 5);
        world.now += 10 * MS;
        world.turn(1, CALM, 5);
        prop_assert_eq!(world.nodes[1].claim.standing(world.now), Standing::Holds);
        world.check();
    }
}
