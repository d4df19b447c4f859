//! Which worker runs which timer with `single`.

use std::collections::{BTreeMap, BTreeSet};

use crate::server::line::{Reached, SingleAnswer, SingleCall};

/// The longest name of a timer, and so many timers there may be: a worker that has lost its mind doesn't fill the
/// supervisor's memory.
const LONGEST_NAME: usize = 1024;
const MOST: usize = 1024;

/// All timers with `single` of a server, by name. `W` is a worker.
#[derive(Debug)]
pub(super) struct Singles<W>(BTreeMap<String, Single<W>>);

#[derive(Debug)]
struct Single<W> {
    /// Of the newest holder; zero before the first.
    token: u64,
    /// The worker that runs it, and which of its timers of this name.
    holder: Option<(W, String)>,
    last: Option<Reached>,
    /// Workers that are to be told when nobody holds it.
    waiting: BTreeSet<W>,
}

impl<W: Copy + Ord> Singles<W> {
    pub(super) fn new() -> Singles<W> {
        Singles(BTreeMap::new())
    }

    /// Answers a worker, which may not take over what it doesn't hold if it is `leaving`. Gives the workers that are to be
    /// told that they may ask again.
    pub(super) fn answer(
        &mut self,
        by: W,
        leaving: bool,
        call: SingleCall,
    ) -> (SingleAnswer, BTreeSet<W>) {
        let mut free_for = BTreeSet::new();
        let answer = match call {
            SingleCall::Hold { name, owner } => self.hold(by, leaving, name, owner),
            SingleCall::Record {
                name,
                token,
                reached,
            } => match self.newest(&name, token) {
                Some(single) => {
                    single.last = single.last.max(Some(reached));
                    SingleAnswer::Done
                }
                None => SingleAnswer::Stale,
            },
            SingleCall::Release { name, token } => {
                if let Some(single) = self.newest(&name, token) {
                    free_for = single.free();
                }
                SingleAnswer::Done
            }
        };
        (answer, free_for)
    }

    /// The worker is gone, and nothing of it runs any more.
    pub(super) fn ended(&mut self, worker: W) -> BTreeSet<W> {
        let mut free_for = BTreeSet::new();
        for single in self.0.values_mut() {
            single.waiting.remove(&worker);
            if single.holder.as_ref().is_some_and(|(by, _)| *by == worker) {
                free_for.append(&mut single.free());
            }
        }
        free_for
    }

    fn hold(&mut self, by: W, leaving: bool, name: String, owner: String) -> SingleAnswer {
        if !self.0.contains_key(&name) {
            if name.len() > LONGEST_NAME {
                let length = name.len();
                return SingleAnswer::Refused(format!(
                    "a timer's name has {length} bytes; with `single` at most {LONGEST_NAME} are allowed"
                ));
            }
            if self.0.len() == MOST {
                return SingleAnswer::Refused(format!(
                    "timer `{name}`: a server has at most {MOST} timers with `single`"
                ));
            }
        }
        if leaving && !self.0.contains_key(&name) {
            return SingleAnswer::Taken;
        }
        let single = self.0.entry(name).or_insert_with(|| Single {
            token: 0,
            holder: None,
            last: None,
            waiting: BTreeSet::new(),
        });
        let asks = (by, owner);
        if single.holder.as_ref() != Some(&asks) {
            if leaving {
                return SingleAnswer::Taken;
            }
            if single.holder.is_some() {
                single.waiting.insert(by);
                return SingleAnswer::Taken;
            }
            single.token += 1;
            single.holder = Some(asks);
        }
        SingleAnswer::Held {
            token: single.token,
            last: single.last,
        }
    }

    fn newest(&mut self, name: &str, token: u64) -> Option<&mut Single<W>> {
        let single = self.0.get_mut(name);
        single.filter(|single| single.token == token && token > 0)
    }
}

impl<W: Copy + Ord> Single<W> {
    fn free(&mut self) -> BTreeSet<W> {
        match self.holder.take() {
            Some(_) => std::mem::take(&mut self.waiting),
            None => BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Hold {
            worker: usize,
            owner: usize,
            leaving: bool,
        },
        Record {
            token: u64,
            due: u64,
            done: bool,
        },
        Release {
            token: u64,
        },
        Ended {
            worker: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4usize, 0..2usize, prop::bool::weighted(0.2)).prop_map(
                |(worker, owner, leaving)| Step::Hold { worker, owner, leaving }
            ),
            2 => (0..6u64, 0..9u64, any::<bool>())
                .prop_map(|(token, due, done)| Step::Record { token, due, done }),
            2 => (0..6u64).prop_map(|token| Step::Release { token }),
            1 => (0..4usize).prop_map(|worker| Step::Ended { worker }),
        ]
    }

    fn hold(name: &str, owner: usize) -> SingleCall {
        SingleCall::Hold {
            name: name.to_owned(),
            owner: owner.to_string(),
        }
    }

    proptest! {
        #[test]
        fn one_holds_it_and_whoever_was_refused_is_told(steps in prop::collection::vec(step(), 1..80)) {
            let name = "sweep";
            let mut singles = Singles::new();
            let (mut holder, mut tokens, mut last) = (None, 0, None);
            let mut refused = BTreeSet::new();
            for step in steps {
                let (free, told) = match step {
                    Step::Hold { worker, owner, leaving } => {
                        let (answer, told) = singles.answer(worker, leaving, hold(name, owner));
                        prop_assert!(told.is_empty());
                        let expected = match holder {
                            Some(held) if held == (worker, owner) => true,
                            None if !leaving => {
                                tokens += 1;
                                holder = Some((worker, owner));
                                true
                            }
                            Some(_) if !leaving => {
                                refused.insert(worker);
                                false
                            }
                            _ => false,
                        };
                        prop_assert_eq!(answer, match expected {
                            true => SingleAnswer::Held { token: tokens, last },
                            false => SingleAnswer::Taken,
                        });
                        continue;
                    }
                    Step::Record { token, due, done } => {
                        let reached = Reached { due, done };
                        let call = SingleCall::Record { name: name.to_owned(), token, reached };
                        let (answer, told) = singles.answer(0, false, call);
                        prop_assert!(told.is_empty());
                        let newest = token == tokens && tokens > 0;
                        prop_assert_eq!(answer == SingleAnswer::Done, newest);
                        if newest {
                            last = last.max(Some(reached));
                        }
                        continue;
                    }
                    Step::Release { token } => {
                        let call = SingleCall::Release { name: name.to_owned(), token };
                        let (_, told) = singles.answer(0, false, call);
                        (token == tokens, told)
                    }
                    Step::Ended { worker } => {
                        refused.remove(&worker);
                        let told = singles.ended(worker);
                        (holder.is_some_and(|(by, _)| by == worker), told)
                    }
                };
                if free && holder.take().is_some() {
                    prop_assert_eq!(told, std::mem::take(&mut refused));
                } else {
                    prop_assert!(told.is_empty());
                }
            }
        }
    }

    #[test]
    fn names_have_bounds() {
        let mut singles = Singles::new();
        let long = "x".repeat(LONGEST_NAME + 1);
        let (answer, _) = singles.answer(0, false, hold(&long, 0));
        assert!(matches!(answer, SingleAnswer::Refused(text) if text.contains("1025 bytes")));
        for number in 0..MOST {
            let (answer, _) = singles.answer(0, false, hold(&number.to_string(), 0));
            assert!(matches!(answer, SingleAnswer::Held { .. }));
        }
        let (answer, _) = singles.answer(0, false, hold("another", 0));
        assert!(matches!(answer, SingleAnswer::Refused(text) if text.contains("`another`")));
        let (answer, _) = singles.answer(0, false, hold("7", 0));
        assert!(matches!(answer, SingleAnswer::Held { token: 1, .. }));
    }
}
