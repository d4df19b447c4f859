//! How much a worker may say.

use std::time::Duration;

/// What a worker may say at once.
const BURST: u32 = 65_536;
/// What is added to it in a second.
const PER_SECOND: u32 = 8192;

/// More than any sound worker uses: a bucket that fills with time and is emptied by messages.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    at: Duration,
}

impl Allowance {
    pub(super) fn new(now: Duration) -> Allowance {
        Allowance {
            left: BURST,
            at: now,
        }
    }

    /// Whether the worker may say something of this weight.
    pub(super) fn take(&mut self, now: Duration, weight: u32) -> bool {
        let added = now.saturating_sub(self.at).as_millis() * u128::from(PER_SECOND) / 1000;
        if added > 0 {
            let added = u32::try_from(added).unwrap_or(BURST);
            self.left = self.left.saturating_add(added).min(BURST);
            self.at = now;
        }
        match self.left.checked_sub(weight) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_endless_flood_is_found_out_and_steady_talk_is_not() {
        let mut flood = Allowance::new(Duration::ZERO);
        let taken = (0..1_000_000)
            .take_while(|_| flood.take(Duration::ZERO, 16))
            .count();
        assert_eq!(taken, 4096);
        let mut talk = Allowance::new(Duration::ZERO);
        // For an hour.
        assert!((0..3600 * 500).all(|nth| talk.take(Duration::from_millis(2 * nth), 16)));
    }

    proptest! {
        /// Never more than the burst and what time has added.
        #[test]
        fn the_rate_is_kept(said in proptest::collection::vec((0..3000_u64, 1..2000_u32), 0..500)) {
            let (mut now, mut total) = (Duration::ZERO, 0);
            let mut allowance = Allowance::new(now);
            for (millis, weight) in said {
                now += Duration::from_millis(millis);
                if allowance.take(now, weight) {
                    total += u128::from(weight);
                }
                let most = u128::from(BURST) + now.as_millis() * u128::from(PER_SECOND) / 1000;
                prop_assert!(total <= most);
            }
        }
    }
}
