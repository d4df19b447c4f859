//! When something that has failed is started again, and when it is given up: pure, with the time as an argument.

use std::collections::VecDeque;
use std::time::Duration;

/// The first delay by default.
pub(crate) const FIRST: Duration = Duration::from_millis(100);
/// What doubling the delay leads to.
const LONGEST: Duration = Duration::from_secs(10);

/// What is the same for all that share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The delay after the first failure. It doubles with each further one up to 10 s, or stays as it is if it is
    /// longer than that.
    pub(crate) first: Duration,
    /// How many failures within `window` are allowed.
    pub(crate) max: u32,
    pub(crate) window: Duration,
    /// Spreads a delay, so that those that failed together don't start together. The identity in tests.
    pub(crate) jitter: fn(Duration) -> Duration,
}

impl Rule {
    /// The delay after so many failures in a row.
    pub(crate) fn delay(&self, streak: u32) -> Duration {
        let doublings = 2_u32.saturating_pow(streak);
        let longest = LONGEST.max(self.first);
        (self.jitter)(self.first.saturating_mul(doublings).min(longest))
    }
}

/// Up to a tenth less.
pub(crate) fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(1.0 - 0.1 * fastrand::f64())
}

/// The failures of one thing that is started again and again. All times count from the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// When it failed, within the window.
    failures: VecDeque<Duration>,
    /// Failures since it last was ready for the length of the window.
    streak: u32,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Restart {
        delay: Duration,
    },
    /// It failed more often within the window than is allowed.
    GiveUp {
        failures: usize,
    },
}

impl Backoff {
    /// It has ended, having been ready since `ready_at`. If that was long enough, it makes up for the failures before.
    pub(crate) fn forgive(&mut self, now: Duration, ready_at: Option<Duration>, rule: &Rule) {
        if ready_at.is_some_and(|at| now.saturating_sub(at) >= rule.window) {
            self.streak = 0;
        }
    }

    /// The failures that still count.
    #[cfg(feature = "server")]
    pub(crate) fn failures(&mut self) -> &mut VecDeque<Duration> {
        &mut self.failures
    }

    /// It has failed.
    pub(crate) fn fail(&mut self, now: Duration, rule: &Rule) -> Verdict {
        self.failures
            .retain(|failure| now.saturating_sub(*failure) < rule.window);
        self.failures.push_back(now);
        let failures = self.failures.len();
        if failures > rule.max as usize {
            return Verdict::GiveUp { failures };
        }
        let delay = rule.delay(self.streak);
        self.streak = self.streak.saturating_add(1);
        Verdict::Restart { delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(max: u32, window: Duration) -> Rule {
        Rule {
            first: FIRST,
            max,
            window,
            jitter: |delay| delay,
        }
    }

    fn delay(verdict: Verdict) -> Duration {
        match verdict {
            Verdict::Restart { delay } => delay,
            Verdict::GiveUp { failures } => panic!("given up after {failures} failures"),
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn time_that_counts_for_nothing_is_added_to_failures() {
        let second = Duration::from_secs(1);
        let rule = rule(1, 60 * second);
        let mut backoff = Backoff::default();
        backoff.fail(Duration::ZERO, &rule);
        for failure in backoff.failures() {
            *failure += 100 * second;
        }
        let verdict = backoff.fail(150 * second, &rule);
        assert_eq!(verdict, Verdict::GiveUp { failures: 2 });
    }

    #[test]
    fn a_delay_doubles_up_to_ten_seconds() {
        let rule = rule(100, Duration::from_secs(60));
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..40)
            .map(|_| delay(backoff.fail(Duration::ZERO, &rule)).as_millis())
            .collect();
        assert_eq!(
            delays[..9],
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert!(delays[9..].iter().all(|delay| *delay == 10_000));
    }

    #[test]
    fn a_first_delay_beyond_ten_seconds_stays() {
        let rule = Rule {
            first: Duration::from_secs(30),
            ..rule(100, Duration::from_secs(60))
        };
        let mut backoff = Backoff::default();
        for _ in 0..3 {
            let verdict = backoff.fail(Duration::ZERO, &rule);
            assert_eq!(delay(verdict), Duration::from_secs(30));
        }
    }

    #[test]
    fn one_failure_more_than_allowed_is_the_end() {
        let rule = rule(2, Duration::from_secs(60));
        let mut backoff = Backoff::default();
        let mut fail = |secs| backoff.fail(Duration::from_secs(secs), &rule);
        assert!(matches!(fail(0), Verdict::Restart { .. }));
        assert!(matches!(fail(30), Verdict::Restart { .. }));
        assert!(
            matches!(fail(60), Verdict::Restart { .. }),
            "the first is a window ago"
        );
        assert_eq!(fail(89), Verdict::GiveUp { failures: 3 });
    }

    #[test]
    fn jitter_takes_up_to_a_tenth_off() {
        for _ in 0..1000 {
            let spread = jitter(Duration::from_secs(1));
            assert!(
                (Duration::from_millis(900)..=Duration::from_secs(1)).contains(&spread),
                "{spread:?}"
            );
        }
    }

    /// What happens between two failures: the time that it takes to be ready, if it gets there, and the time until
    /// it fails.
    fn lives() -> impl Strategy<Value = Vec<(Option<u64>, u64)>> {
        proptest::collection::vec((proptest::option::of(0u64..3_000), 0u64..90_000), 1..200)
    }

    proptest! {
        /// Beside a model that looks at all failures ever and counts.
        #[test]
        fn the_rule_is_kept(
            lives in lives(),
            max in 0u32..8,
            window in 1u64..60_000,
            first in 1u64..20_000,
        ) {
            let millis = Duration::from_millis;
            let rule = Rule { first: millis(first), ..rule(max, millis(window)) };
            let mut backoff = Backoff::default();
            let (mut now, mut failures, mut doublings) = (0, Vec::new(), 0u32);
            for (ready_in, fails_in) in lives {
                let ready_at = ready_in.map(|ready_in| now + ready_in);
                now = ready_at.unwrap_or(now) + fails_in;
                backoff.forgive(millis(now), ready_at.map(millis), &rule);
                let verdict = backoff.fail(millis(now), &rule);

                failures.push(now);
                let recent = failures.iter().filter(|at| now - **at < window).count();
                if ready_at.is_some_and(|at| now - at >= window) {
                    doublings = 0;
                }
                if recent > max as usize {
                    prop_assert_eq!(verdict, Verdict::GiveUp { failures: recent });
                    break;
                }
                let longest = first.max(10_000);
                let expected = u128::from(first) << doublings.min(64);
                let expected = expected.min(u128::from(longest)) as u64;
                prop_assert_eq!(verdict, Verdict::Restart { delay: millis(expected) });
                doublings += 1;
                // It isn't started again before the delay is over.
                now += expected;
            }
        }
    }
}
