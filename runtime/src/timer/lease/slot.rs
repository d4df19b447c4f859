//! What a store keeps of one lease, and what it answers: pure, with the store's clock as an argument.

use std::time::{Duration, SystemTime};

use super::types::{Held, Owner, Progress, Token};

/// What a store keeps of one lease. The model that the stores of all engines are tested against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// Of the newest holder; zero before the first.
    token: u64,
    holder: Option<Holder>,
    last: Option<(SystemTime, Progress)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    owner: Owner,
    /// By the store's clock.
    until: Duration,
}

/// The token isn't the newest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stale;

impl Slot {
    pub(super) fn hold(&mut self, now: Duration, owner: &Owner, ttl: Duration) -> Option<Held> {
        match &self.holder {
            Some(holder) if now < holder.until && holder.owner != *owner => return None,
            Some(holder) if now < holder.until => {}
            // An owner whose ttl is over doesn't go on under its old token: work of that may still be on its way.
            _ => self.token += 1,
        }
        self.holder = Some(Holder {
            owner: owner.clone(),
            until: now.saturating_add(ttl),
        });
        Some(Held {
            token: Token::new(self.token),
            left: ttl,
            last: self.last,
        })
    }

    pub(super) fn record(
        &mut self,
        token: Token,
        due: SystemTime,
        at: Progress,
    ) -> Result<(), Stale> {
        if token.get() != self.token {
            return Err(Stale);
        }
        self.last = self.last.max(Some((due, at)));
        Ok(())
    }

    /// Whether that made it free.
    pub(super) fn release(&mut self, token: Token) -> bool {
        token.get() == self.token && self.holder.take().is_some()
    }

    /// When it is free, unless it is renewed or released.
    pub(super) fn held_until(&self) -> Option<Duration> {
        self.holder.as_ref().map(|holder| holder.until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Pass(u64),
        Hold { owner: usize, ttl: u64 },
        Record { token: u64, due: u64, at: Progress },
        Release { token: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let at = prop_oneof![Just(Progress::Started), Just(Progress::Done)];
        let step = prop_oneof![
            (0..8_u64).prop_map(Step::Pass),
            (0..3_usize, 1..6_u64).prop_map(|(owner, ttl)| Step::Hold { owner, ttl }),
            (1..8_u64, 0..6_u64, at).prop_map(|(token, due, at)| Step::Record { token, due, at }),
            (1..8_u64).prop_map(|token| Step::Release { token }),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// All that ever happened, looked through anew for every answer.
    #[derive(Default)]
    struct History(Vec<(u64, Event)>);

    enum Event {
        Held { owner: usize, ttl: u64, token: u64 },
        Recorded { due: u64, at: Progress },
        Released { token: u64 },
    }

    impl History {
        fn newest(&self) -> u64 {
            let tokens = self.0.iter().map(|(_, event)| match event {
                Event::Held { token, .. } => *token,
                _ => 0,
            });
            tokens.max().unwrap_or(0)
        }

        /// Who holds the lease at this time, and under which token.
        fn holder(&self, now: u64) -> Option<(usize, u64)> {
            let newest = self
                .0
                .iter()
                .rposition(|(_, event)| matches!(event, Event::Held { .. }))?;
            let (when, Event::Held { owner, ttl, token }) = &self.0[newest] else {
                return None;
            };
            let released = self.0[newest..]
                .iter()
                .any(|(_, event)| matches!(event, Event::Released { token: of } if of == token));
            (!released && now < when + ttl).then_some((*owner, *token))
        }

        fn last(&self) -> Option<(u64, Progress)> {
            let recorded = self.0.iter().filter_map(|(_, event)| match event {
                Event::Recorded { due, at } => Some((*due, *at)),
                _ => None,
            });
            recorded.max()
        }
    }

    proptest! {
        #[test]
        fn answers_as_its_whole_history_does(steps in steps()) {
            let owners = ["a", "b", "c"].map(Owner::new);
            let secs = Duration::from_secs;
            let mut slot = Slot::default();
            let mut history = History::default();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Pass(time) => now += time,
                    Step::Hold { owner, ttl } => {
                        let expected = match history.holder(now) {
                            Some((holder, _)) if holder != owner => None,
                            Some((_, token)) => Some(token),
                            None => Some(history.newest() + 1),
                        };
                        let last = history.last();
                        let held = slot.hold(secs(now), &owners[owner], secs(ttl));
                        prop_assert_eq!(
                            held,
                            expected.map(|token| Held {
                                token: Token::new(token),
                                left: secs(ttl),
                                last: last.map(|(due, at)| (UNIX_EPOCH + secs(due), at)),
                            })
                        );
                        if let Some(token) = expected {
                            history.0.push((now, Event::Held { owner, ttl, token }));
                            prop_assert_eq!(slot.held_until(), Some(secs(now + ttl)));
                        }
                    }
                    Step::Record { token, due, at } => {
                        let recorded = slot.record(Token::new(token), UNIX_EPOCH + secs(due), at);
                        if token == history.newest() {
                            prop_assert_eq!(recorded, Ok(()));
                            history.0.push((now, Event::Recorded { due, at }));
                        } else {
                            prop_assert_eq!(recorded, Err(Stale));
                        }
                    }
                    Step::Release { token } => {
                        slot.release(Token::new(token));
                        history.0.push((now, Event::Released { token }));
                        prop_assert!(history.holder(now).is_none_or(|(_, holder)| holder != token));
                    }
                }
            }
        }
    }
}
