//! When supervised tasks that restart together may start: no task, lock or clock in here.

/// The runs of all supervised tasks of a scope. A new round begins when one that takes all others along has
/// failed; it starts when all runs of earlier rounds have ended.
#[derive(Debug)]
pub(super) struct Rounds<T> {
    round: u64,
    /// Runs of this round.
    current: usize,
    /// Runs of earlier rounds.
    stale: usize,
    not_before: Option<T>,
}

/// A run that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run(u64);

/// Why a run can't begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotYet<T> {
    /// Runs of earlier rounds have yet to end.
    Others,
    Until(T),
}

impl<T: Copy + Ord> Rounds<T> {
    pub(super) fn new() -> Self {
        Rounds {
            round: 0,
            current: 0,
            stale: 0,
            not_before: None,
        }
    }

    pub(super) fn begin(&mut self, now: T) -> Result<Run, NotYet<T>> {
        if self.stale > 0 {
            return Err(NotYet::Others);
        }
        if let Some(at) = self.not_before.filter(|at| now < *at) {
            return Err(NotYet::Until(at));
        }
        self.current += 1;
        Ok(Run(self.round))
    }

    /// Whether the run is to end, so that the next one of its round can begin.
    pub(super) fn is_stale(&self, run: Run) -> bool {
        run.0 != self.round
    }

    /// Gives whether others may begin now.
    pub(super) fn end(&mut self, run: Run) -> bool {
        if self.is_stale(run) {
            self.stale -= 1;
            self.stale == 0
        } else {
            self.current -= 1;
            false
        }
    }

    /// All are to be started again, at `at` or later.
    pub(super) fn next(&mut self, at: T) {
        self.round += 1;
        self.stale += self.current;
        self.current = 0;
        self.not_before = self.not_before.max(Some(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_round_waits_for_all_of_the_one_before() {
        let mut rounds = Rounds::new();
        let (a, b) = (rounds.begin(0).unwrap(), rounds.begin(0).unwrap());
        assert!(!rounds.end(a));
        rounds.next(1);
        assert!(rounds.is_stale(b));
        assert_eq!(rounds.begin(9), Err(NotYet::Others));
        assert!(rounds.end(b));
        assert_eq!(rounds.begin(0), Err(NotYet::Until(1)));
        let run = rounds.begin(1).unwrap();
        assert!(!rounds.is_stale(run));
    }

    proptest! {
        /// No run of a round meets one of another, except those that have been told to end.
        #[test]
        fn rounds_do_not_overlap(events in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..200)) {
            let mut rounds = Rounds::new();
            let mut runs: Vec<Run> = Vec::new();
            for (event, index) in events {
                match event {
                    0 | 1 => {
                        let stale = runs.iter().any(|run| rounds.is_stale(*run));
                        match rounds.begin(0) {
                            Ok(run) => {
                                prop_assert!(!stale);
                                runs.push(run);
                            }
                            Err(wait) => {
                                prop_assert_eq!(wait, NotYet::Others);
                                prop_assert!(stale);
                            }
                        }
                    }
                    2 if !runs.is_empty() => {
                        let run = runs.swap_remove(index.index(runs.len()));
                        let was_stale = rounds.is_stale(run);
                        let free = rounds.end(run);
                        let stale = runs.iter().any(|run| rounds.is_stale(*run));
                        prop_assert_eq!(free, was_stale && !stale);
                    }
                    2 => {}
                    _ => rounds.next(0),
                }
            }
        }
    }
}
