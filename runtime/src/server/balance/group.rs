//! Which of the workers that accept at one address handles which connection.

use std::collections::{BTreeMap, VecDeque};

/// The accept loops of one address, by their numbers. What it gives back are those that have something new to
/// [take](Group::take).
#[derive(Debug)]
pub(super) struct Group<T>(BTreeMap<u64, Member<T>>);

#[derive(Debug)]
struct Member<T> {
    worker: u64,
    /// How many connections it has open, and is about to have.
    load: usize,
    /// It may have no more open.
    full: bool,
    /// Its event loop doesn't turn.
    blocked: bool,
    /// Accepted by others for it, in turn.
    handed: VecDeque<T>,
}

impl<T> Member<T> {
    fn is_able(&self) -> bool {
        !self.full && !self.blocked
    }
}

impl<T> Default for Group<T> {
    fn default() -> Group<T> {
        Group(BTreeMap::new())
    }
}

impl<T> Group<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An accept loop of this worker begins.
    pub(super) fn join(&mut self, member: u64, worker: u64, blocked: bool) -> Vec<u64> {
        let joined = Member {
            worker,
            load: 0,
            full: false,
            blocked,
            handed: VecDeque::new(),
        };
        self.0.insert(member, joined);
        self.settle()
    }

    /// An accept loop accepts no more. What it has yet to take goes to the others, and comes back if there are none.
    pub(super) fn leave(&mut self, member: u64) -> (Vec<T>, Vec<u64>) {
        let left = self.0.remove(&member).map(|left| left.handed);
        let (mut back, mut woken) = (Vec::new(), Vec::new());
        for connection in left.into_iter().flatten() {
            let all = self.0.iter();
            match all
                .min_by_key(|(_, other)| (!other.is_able(), other.load))
                .map(|(number, _)| *number)
            {
                Some(to) => woken.extend(self.give(to, connection)),
                None => back.push(connection),
            }
        }
        (back, woken)
    }

    /// A member has accepted a connection: who handles it. It is counted as that one's from now on.
    pub(super) fn accepted(&mut self, by: u64) -> u64 {
        let own = self.0.get(&by).map_or(0, |member| member.load);
        let least = self.least().filter(|(load, _)| *load < own);
        let to = least.map_or(by, |(_, number)| number);
        if let Some(member) = self.0.get_mut(&to) {
            member.load += 1;
        }
        to
    }

    /// Hands over a connection to whom it was [accepted](Group::accepted) for, who may be gone by now.
    pub(super) fn hand(&mut self, to: u64, connection: T) -> Result<Vec<u64>, T> {
        match self.0.get_mut(&to) {
            Some(member) => {
                member.handed.push_back(connection);
                let mut woken = self.settle();
                woken.push(to);
                Ok(woken)
            }
            None => Err(connection),
        }
    }

    /// A member handles a connection that it couldn't hand over.
    pub(super) fn keep(&mut self, member: u64) {
        if let Some(member) = self.0.get_mut(&member) {
            member.load += 1;
        }
    }

    /// A connection that was handed to a member.
    pub(super) fn take(&mut self, member: u64) -> Option<T> {
        self.0.get_mut(&member)?.handed.pop_front()
    }

    /// One of a member's connections is closed.
    pub(super) fn closed(&mut self, member: u64) {
        if let Some(member) = self.0.get_mut(&member) {
            member.load = member.load.saturating_sub(1);
        }
    }

    /// A member may have no more connections open, or may again.
    pub(super) fn full(&mut self, member: u64, full: bool) -> Vec<u64> {
        if let Some(member) = self.0.get_mut(&member) {
            member.full = full;
        }
        self.settle()
    }

    /// A worker's event loop doesn't turn, or does again.
    pub(super) fn blocked(&mut self, worker: u64, blocked: bool) -> Vec<u64> {
        for member in self.0.values_mut().filter(|of| of.worker == worker) {
            member.blocked = blocked;
        }
        self.settle()
    }

    /// Who can take a connection and has the fewest, and how many those are.
    fn least(&self) -> Option<(usize, u64)> {
        let able = self.0.iter().filter(|(_, member)| member.is_able());
        able.map(|(number, member)| (member.load, *number)).min()
    }

    /// Nobody waits for one who can't take it while another can.
    fn settle(&mut self) -> Vec<u64> {
        let mut woken = Vec::new();
        let unable = self.0.iter();
        let unable: Vec<u64> = unable
            .filter(|(_, member)| !member.is_able() && !member.handed.is_empty())
            .map(|(number, _)| *number)
            .collect();
        for from in unable {
            while let Some((_, to)) = self.least() {
                let Some(connection) = self.take(from) else {
                    break;
                };
                self.closed(from);
                woken.extend(self.give(to, connection));
            }
        }
        woken
    }

    fn give(&mut self, to: u64, connection: T) -> Option<u64> {
        let member = self.0.get_mut(&to)?;
        member.load += 1;
        member.handed.push_back(connection);
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn of(members: u64) -> Group<u32> {
        let mut group = Group::default();
        for member in 0..members {
            assert!(group.join(member, member, false).is_empty());
        }
        group
    }

    fn loads(group: &Group<u32>) -> Vec<usize> {
        group.0.values().map(|member| member.load).collect()
    }

    #[test]
    fn whoever_accepts_all_have_the_same() {
        let mut group = of(4);
        for by in [0, 0, 0, 1, 0, 0, 2, 0, 0, 1, 1, 1, 0, 3, 3, 3] {
            let to = group.accepted(by);
            if to != by {
                assert_eq!(group.hand(to, 0), Ok(vec![to]));
            }
        }
        assert_eq!(loads(&group), [4, 4, 4, 4]);
        group.closed(2);
        assert_eq!(group.accepted(2), 2);
        assert_eq!(group.accepted(1), 1, "nobody has fewer");
    }

    #[test]
    fn what_a_blocked_worker_has_yet_to_take_goes_to_the_others() {
        let mut group = of(3);
        for _ in 0..6 {
            let to = group.accepted(0);
            let _ = group.hand(to, 7);
        }
        assert_eq!(loads(&group), [2, 2, 2]);
        assert_eq!(group.blocked(1, true).len(), 2);
        assert_eq!(loads(&group), [3, 0, 3]);
        assert_eq!(group.accepted(0), 0, "not the blocked one's");
        assert!(group.blocked(1, false).is_empty());
        assert_eq!(group.accepted(0), 1);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Join,
        Leave(usize),
        Accept(usize),
        Take(usize),
        Close(usize),
        Full(usize, bool),
        Block(u64, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = || 0..4_usize;
        prop_oneof![
            1 => Just(Step::Join),
            1 => at().prop_map(Step::Leave),
            4 => at().prop_map(Step::Accept),
            3 => at().prop_map(Step::Take),
            2 => at().prop_map(Step::Close),
            1 => (at(), any::<bool>()).prop_map(|(at, full)| Step::Full(at, full)),
            1 => (0..3_u64, any::<bool>()).prop_map(|(worker, blocked)| Step::Block(worker, blocked)),
        ]
    }

    proptest! {
        /// Each connection is somebody's, who can take it if anybody can, and who has been woken for it.
        #[test]
        fn no_connection_is_lost(steps in proptest::collection::vec(step(), 0..200)) {
            let mut group = Group::default();
            let mut blocked = [false; 3];
            let mut open = BTreeMap::<u64, usize>::new();
            let (mut next, mut connections, mut seen) = (0, 0_u32, 0_u32);
            let mut awake = std::collections::BTreeSet::new();
            for step in steps {
                let number = |at: usize| open.keys().nth(at % open.len().max(1)).copied();
                match step {
                    Step::Join => {
                        awake.extend(group.join(next, next % 3, blocked[next as usize % 3]));
                        open.insert(next, 0);
                        next += 1;
                    }
                    Step::Leave(at) => if let Some(member) = number(at) {
                        open.remove(&member);
                        let (back, woken) = group.leave(member);
                        awake.extend(woken);
                        prop_assert!(back.is_empty() || group.is_empty());
                        seen += u32::try_from(back.len()).unwrap();
                    },
                    Step::Accept(at) => if let Some(by) = number(at).filter(|by| group.0[by].is_able()) {
                        connections += 1;
                        let to = group.accepted(by);
                        if to == by {
                            seen += 1;
                            *open.get_mut(&by).unwrap() += 1;
                        } else {
                            prop_assert!(group.0[&to].load <= group.0[&by].load);
                            awake.extend(group.hand(to, connections).unwrap());
                        }
                    },
                    Step::Take(at) => if let Some(member) = number(at).filter(|by| group.0[by].is_able()) {
                        if group.take(member).is_some() {
                            prop_assert!(awake.contains(&member));
                            seen += 1;
                            *open.get_mut(&member).unwrap() += 1;
                        }
                    },
                    Step::Close(at) => if let Some(member) = number(at).filter(|of| open[of] > 0) {
                        *open.get_mut(&member).unwrap() -= 1;
                        group.closed(member);
                    },
                    Step::Full(at, full) => if let Some(member) = number(at) {
                        awake.extend(group.full(member, full));
                    },
                    Step::Block(worker, is) => {
                        blocked[worker as usize] = is;
                        awake.extend(group.blocked(worker, is));
                    }
                }
                let waiting: usize = group.0.values().map(|member| member.handed.len()).sum();
                prop_assert_eq!(seen as usize + waiting, connections as usize);
                let able = group.0.values().any(Member::is_able);
                for (number, member) in &group.0 {
                    prop_assert_eq!(member.load, open[number] + member.handed.len());
                    prop_assert!(member.is_able() || member.handed.is_empty() || !able);
                }
            }
        }
    }
}
