//! Due times by a wall clock: how they pass.

use std::sync::Arc;

use super::due::{Due, NEVER, Nanos, Run};
use super::irregular::Irregular;
use super::machine::{Cadence, Schedule};

/// So many of the due times that have passed at once are told apart, the newest.
const MOST: usize = 1024;

impl Schedule {
    /// Looks at the clock, which may have been put back.
    pub(in crate::timer) fn look(&mut self, now: Nanos) {
        if self.cadence != Cadence::Clock {
            return;
        }
        let Some(irregular) = self.irregular() else {
            return;
        };
        if irregular.look(now) {
            let next = irregular.after(now);
            self.set_next(next);
        }
    }

    pub(super) fn irregular(&mut self) -> Option<&mut Irregular> {
        self.rare.as_mut()?.irregular.as_mut()
    }

    pub(super) fn set_next(&mut self, at: Nanos) {
        self.next.at = at;
        self.next_at = self.jittered(at);
    }

    /// As `pass` of a grid, for due times that have to be found one by one.
    pub(super) fn pass_irregular(&mut self, now: Nanos) -> (Run, Nanos) {
        let first_index = self.next.index;
        let (mut times, mut count) = (Vec::new(), 0);
        let mut newest_at = self.next_at;
        let mut dropped = 0;
        while self.next_at <= now && self.next.at != NEVER {
            newest_at = self.next_at;
            count += 1;
            if times.len() == 2 * MOST {
                times.drain(..MOST);
                dropped += MOST as u64;
            }
            times.push(self.next.at);
            let last = self.next.at;
            let next = self
                .irregular()
                .map_or(NEVER, |irregular| irregular.after(last));
            self.interval = next.saturating_sub(last);
            self.set_next(next);
        }
        let surplus = times.len().saturating_sub(MOST);
        times.drain(..surplus);
        dropped += surplus as u64;
        self.drop_missed(dropped);
        self.next.index = first_index + count;
        let points = Run {
            first: Due {
                index: first_index + dropped,
                at: times.first().copied().unwrap_or(NEVER),
            },
            step: 0,
            count: times.len() as u64,
            times: (times.len() > 1).then(|| (Arc::from(times), 0)),
        };
        (points, newest_at)
    }
}
