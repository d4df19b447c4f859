//! Whether a worker's event loop still turns: asked now and then, answered by the loop itself.

use std::time::Duration;

/// How often a loop is asked, at least.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is asked at most.
const SHORTEST: Duration = Duration::from_millis(10);
/// After how long without an answer a loop is called blocked.
const BLOCKED: Duration = Duration::from_secs(5);

/// How often loops are asked: with a short hang timeout more often, so that a hang is noticed within twice that time.
pub(crate) fn interval(hang_timeout: Option<Duration>) -> Duration {
    let half = hang_timeout.map_or(INTERVAL, |timeout| timeout / 2);
    half.clamp(SHORTEST, INTERVAL)
}

/// The pulse of one worker. At most one question is open.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    asked: u64,
    waiting_since: Option<Duration>,
    reported: bool,
    hung: bool,
    /// How long the last answer took.
    took: Option<Duration>,
}

/// What is to be done about a pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Ask, with this number.
    Ask(u64),
    /// Tell that the loop has been blocked for this long.
    Blocked(Duration),
    /// The loop has been blocked for the hang timeout.
    Hung,
}

impl Pulse {
    /// To be called every [`interval`].
    pub(crate) fn check(
        &mut self,
        now: Duration,
        hang_timeout: Option<Duration>,
    ) -> Option<Finding> {
        let Some(since) = self.waiting_since else {
            self.asked += 1;
            self.waiting_since = Some(now);
            return Some(Finding::Ask(self.asked));
        };
        let silent = now.saturating_sub(since);
        if !self.hung && hang_timeout.is_some_and(|timeout| silent >= timeout) {
            self.hung = true;
            return Some(Finding::Hung);
        }
        if !self.reported && silent >= BLOCKED {
            self.reported = true;
            return Some(Finding::Blocked(silent));
        }
        None
    }

    /// The loop has answered. For how long it was blocked, if that had been reported.
    pub(crate) fn answered(&mut self, now: Duration, asked: u64) -> Option<Duration> {
        if asked != self.asked {
            return None;
        }
        let since = self.waiting_since.take()?;
        self.hung = false;
        self.took = Some(now.saturating_sub(since));
        std::mem::take(&mut self.reported).then(|| now.saturating_sub(since))
    }

    /// How long the last answer took, or the open question has been waiting if that is longer; and whether the loop has
    /// been reported as blocked.
    #[cfg_attr(not(any(feature = "monitor", test)), expect(dead_code))]
    pub(crate) fn lag(&self, now: Duration) -> (Option<Duration>, bool) {
        let waiting = self.waiting_since.map(|since| now.saturating_sub(since));
        let open = waiting.filter(|waiting| self.took.is_none_or(|took| *waiting > took));
        (open.or(self.took), self.reported)
    }

    /// That the loop hangs doesn't count: the wait begins anew.
    pub(crate) fn excuse(&mut self, now: Duration) {
        self.hung = false;
        self.waiting_since = Some(now);
    }

    /// Whether it has been blocked for so long that it is reported.
    pub(crate) fn is_blocked(&self) -> bool {
        self.reported
    }

    /// From now on its silence counts for the hang timeout.
    pub(crate) fn ready(&mut self, now: Duration) {
        if let Some(since) = &mut self.waiting_since {
            *since = now;
        }
    }

    /// Nobody could answer, or listen, for this long.
    pub(crate) fn gap(&mut self, by: Duration) {
        if let Some(since) = &mut self.waiting_since {
            *since = since.saturating_add(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// From the moment at which it blocks, wherever between two questions that is.
    #[test]
    fn a_hang_is_noticed_within_twice_its_timeout() {
        for timeout in [30, 300, 999, 1500, 2000, 30_000].map(Duration::from_millis) {
            let step = interval(Some(timeout));
            let mut pulse = Pulse::default();
            let mut now = Duration::ZERO;
            while pulse.check(now, Some(timeout)) != Some(Finding::Hung) {
                now += step;
            }
            assert!(
                now >= timeout && now + step <= 2 * timeout,
                "{timeout:?}: {now:?}"
            );
        }
        assert_eq!(interval(None), INTERVAL);
        assert_eq!(interval(Some(Duration::ZERO)), SHORTEST);
    }

    #[test]
    fn a_loop_that_answers_is_asked_again() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.check(at(1), None), Some(Finding::Ask(1)));
        assert_eq!(pulse.check(at(2), None), None);
        assert_eq!(pulse.answered(at(2), 1), None);
        assert_eq!(pulse.check(at(3), None), Some(Finding::Ask(2)));
        assert_eq!(
            pulse.answered(at(3), 1),
            None,
            "an old answer counts for nothing"
        );
        assert_eq!(pulse.check(at(4), None), None);
    }

    #[test]
    fn the_lag_is_that_of_the_last_answer_until_the_next_takes_longer() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.lag(at(0)), (None, false));
        pulse.check(at(1), None);
        pulse.answered(at(3), 1);
        assert_eq!(pulse.lag(at(9)), (Some(at(2)), false));
        pulse.check(at(9), None);
        assert_eq!(pulse.lag(at(10)), (Some(at(2)), false));
        pulse.check(at(14), None);
        assert_eq!(pulse.lag(at(14)), (Some(at(5)), true));
    }

    #[test]
    fn a_blocked_loop_is_reported_once_and_so_is_its_return() {
        let mut pulse = Pulse::default();
        pulse.check(at(1), None);
        assert_eq!(pulse.check(at(5), None), None);
        assert_eq!(pulse.check(at(6), None), Some(Finding::Blocked(at(5))));
        assert_eq!(pulse.check(at(60), None), None);
        assert_eq!(pulse.answered(at(61), 1), Some(at(60)));
    }

    #[test]
    fn only_silence_while_ready_counts_as_hanging() {
        let mut pulse = Pulse::default();
        pulse.ready(at(0));
        assert_eq!(pulse.check(at(1), None), Some(Finding::Ask(1)));
        pulse.ready(at(4));
        assert_eq!(pulse.check(at(5), Some(at(2))), None);
        assert_eq!(pulse.check(at(6), Some(at(2))), Some(Finding::Hung));
    }

    #[test]
    fn a_loop_hangs_once_and_a_gap_counts_for_nothing() {
        let mut pulse = Pulse::default();
        pulse.check(at(1), Some(at(30)));
        pulse.gap(at(100));
        assert_eq!(pulse.check(at(102), Some(at(30))), None);
        assert_eq!(
            pulse.check(at(130), Some(at(30))),
            Some(Finding::Blocked(at(29)))
        );
        assert_eq!(pulse.check(at(131), Some(at(30))), Some(Finding::Hung));
        assert_eq!(pulse.check(at(132), Some(at(30))), None);
    }
}
