//! Failures of handlers, of which the log gets one line a second at most.

use std::time::Duration;

use tokio::time::Instant;

/// The distance of two lines.
const QUIET: Duration = Duration::from_secs(1);

/// Which failures have yet to be told, and when.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When the next line may be written.
    quiet_until: Option<Instant>,
    untold: u64,
    /// The text of the last one.
    last: String,
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// How many handlers have failed since the last line.
    pub(super) failed: u64,
    /// The error of the last one.
    pub(super) error: String,
}

impl Failures {
    pub(super) fn failed(&mut self, error: String) {
        self.untold += 1;
        self.last = error;
    }

    /// When there is something to tell.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.untold > 0).then(|| self.quiet_until.unwrap_or(now))
    }

    /// What is to be told now.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Failed> {
        self.due(now).filter(|due| *due <= now)?;
        self.quiet_until = Some(now + QUIET);
        self.take()
    }

    /// What has not been told.
    pub(super) fn take(&mut self) -> Option<Failed> {
        let failed = std::mem::take(&mut self.untold);
        let error = std::mem::take(&mut self.last);
        (failed > 0).then_some(Failed { failed, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn the_first_is_told_at_once_and_others_a_second_later_together() {
        let mut failures = Failures::default();
        let now = Instant::now();
        let failed = |failed, error: &str| {
            let error = error.to_owned();
            Some(Failed { failed, error })
        };
        assert_eq!(failures.tell(now), None);
        failures.failed("a".to_owned());
        assert_eq!(failures.tell(now), failed(1, "a"));
        failures.failed("b".to_owned());
        failures.failed("c".to_owned());
        assert_eq!(failures.tell(now), None);
        let due = now + QUIET;
        assert_eq!(failures.due(now), Some(due));
        assert_eq!(failures.tell(due), failed(2, "c"));
        assert_eq!(failures.due(due), None);
        failures.failed("d".to_owned());
        assert_eq!(failures.tell(due + 2 * QUIET), failed(1, "d"));
        failures.failed("e".to_owned());
        assert_eq!(failures.take(), failed(1, "e"));
        assert_eq!(failures.take(), None);
    }

    proptest! {
        #[test]
        fn every_failure_is_told_once_and_lines_are_a_second_apart(
            steps in proptest::collection::vec((0..700_u64, 0..5_u64), 0..100),
        ) {
            let mut failures = Failures::default();
            let (mut now, mut all, mut told) = (Instant::now(), 0, 0);
            let mut last = None;
            for (after, failed) in steps {
                now += Duration::from_millis(after);
                for _ in 0..failed {
                    failures.failed(String::new());
                }
                all += failed;
                if let Some(line) = failures.tell(now) {
                    prop_assert!(last.replace(now).is_none_or(|last| now >= last + QUIET));
                    told += line.failed;
                }
                prop_assert!(failures.due(now).is_none_or(|due| due > now && due <= now + QUIET));
            }
            told += failures.take().map_or(0, |line| line.failed);
            prop_assert_eq!(told, all);
        }
    }
}
