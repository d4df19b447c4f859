//! What becomes of due times that have passed: which start, which wait, which are skipped or missed.

use super::due::{Due, Fifo, Run};
use super::machine::{Policy, Schedule};
use super::policy::{DEFAULT_CAP, Missed};

impl Schedule {
    pub(super) fn judge(&mut self, points: Run, just_now: bool, busy: usize) {
        if busy == 0 && points.count > 1 {
            self.miss(points);
        } else if just_now {
            // A tick that ended at the very instant of a due time has made room for it.
            let (earlier, newest) = points.split_newest();
            self.admit(earlier, busy);
            self.admit(newest, self.running());
        } else {
            self.admit(points, busy);
        }
    }

    /// Several due times that have passed while no tick was running.
    pub(super) fn miss(&mut self, points: Run) {
        let policy = self.rare().missed_policy;
        // Those of the last time that have yet to be replayed.
        let unplayed = std::mem::take(&mut self.rare().replay);
        let points = match unplayed.count {
            0 => points,
            count => unplayed.followed_by(&points).unwrap_or_else(|| {
                self.drop_missed(count);
                points
            }),
        };
        let kept = match policy {
            Missed::Coalesce => 1,
            Missed::Skip => 0,
            Missed::Burst(most) => points.count.min(most as u64),
        };
        self.drop_missed(points.count - kept);
        let kept = points.newest_of(kept);
        match policy {
            Missed::Burst(_) => self.rare().replay = kept,
            _ => self.admit(kept, self.running()),
        }
    }

    /// Due times that a pause or a stop has overtaken.
    pub(super) fn drop_unstarted(&mut self, count: u64, busy: usize) {
        if busy > 0 {
            self.skip(count);
        } else {
            self.drop_missed(count);
        }
    }

    /// Decides on a due tick while `occupied` places are taken.
    pub(super) fn admit_one(&mut self, due: Due, occupied: usize) {
        let has_place = occupied < self.places() || self.overlap == Policy::Cancel;
        if has_place && self.pending.is_empty() {
            self.crowded = false;
            self.pending.push_back(due);
        } else {
            self.admit(Run::one(due), occupied);
        }
    }

    /// Decides on due ticks while `occupied` places are taken.
    pub(super) fn admit(&mut self, points: Run, occupied: usize) {
        if points.count == 0 {
            return;
        }
        if self.overlap == Policy::Cancel {
            self.skip(points.count - 1 + self.pending.len() as u64);
            self.pending = Fifo::default();
            self.pending.push_back(points.newest());
            return;
        }

        let free = self.places().saturating_sub(occupied);
        let waiting = self.pending.len().saturating_sub(free);
        let room = free.saturating_sub(self.pending.len());
        let seats = match self.overlap {
            Policy::Queue => room + (self.bound as usize).saturating_sub(waiting),
            _ => room,
        };
        let taken = points.count.min(seats as u64);
        for i in 0..taken {
            self.pending.push_back(points.nth(i));
        }
        let rest = points.count - taken;
        self.crowded = rest > 0 && self.overlap == Policy::Allow && self.bound == DEFAULT_CAP;
        if rest > 0 && self.overlap == Policy::Wait {
            self.skip(rest - 1);
            self.wait(points.newest(), waiting > 0);
        } else {
            self.skip(rest);
        }
    }

    /// Lets the newest due tick wait, in the place of the one that does already.
    fn wait(&mut self, newest: Due, taken: bool) {
        match self.pending.last_mut().filter(|_| taken) {
            Some(last) => {
                // A replayed due time may be older than the one that waits.
                if newest.at >= last.at {
                    *last = newest;
                }
                self.skip(1);
            }
            None => self.pending.push_back(newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::due::NEVER;
    use super::super::machine::Action;
    use super::super::policy::Overlap;
    use super::*;

    #[test]
    fn overlap_is_judged_at_the_shifted_start() {
        let mut schedule = Schedule::every(100, Overlap::Skip, Missed::Coalesce, 99);
        let (mut started, mut skipped) = (0, 0);
        let mut ends_at = NEVER;
        while started + skipped < 10_000 {
            let due = schedule.next;
            let starts_at = schedule.wake_at();
            let now = starts_at.min(ends_at);
            let busy = schedule.running();
            if now == ends_at {
                schedule.ended(now, 1, true);
                ends_at = NEVER;
            }
            schedule.advance(now, busy);
            let free = ends_at == NEVER;
            let expected = (now == starts_at && free).then_some(Action::Start { due, missed: 0 });
            assert_eq!(schedule.act(now), expected);
            if expected.is_some() {
                ends_at = now + 60;
                started += 1;
            }
            let passed = u64::from(now == starts_at && !free);
            assert_eq!(schedule.take_dropped().skipped, passed);
            skipped += passed;
        }
        // Judged on the grid, more than half would be skipped: those after a start that is shifted by over 40.
        assert!((500..3000).contains(&skipped), "{skipped}");
    }
    #[test]
    fn a_cap_that_nobody_chose_is_told_of_while_ticks_are_skipped_at_it() {
        let crowded = |overlap, running: u64| {
            let mut schedule = Schedule::every(100, overlap, Missed::Coalesce, 0);
            for now in 0..running {
                schedule.advance(now * 100, schedule.running());
                schedule.act(now * 100);
            }
            schedule
        };
        assert!(!crowded(Overlap::ALLOW, 1024).crowded());
        assert!(!crowded(Overlap::Allow(1023), 1025).crowded());
        assert!(!crowded(Overlap::Queue(1024), 1030).crowded());
        let mut schedule = crowded(Overlap::ALLOW, 1025);
        assert!(schedule.crowded());
        schedule.ended(102_450, 1, true);
        schedule.advance(102_500, 1023);
        assert!(!schedule.crowded());
    }
    #[test]
    fn what_was_to_be_replayed_is_missed_once_there_is_a_gap_after_it() {
        let mut schedule = Schedule::every(10, Overlap::Allow(5), Missed::Burst(5), 0);
        let start = |schedule: &mut Schedule| match schedule.act(65) {
            Some(Action::Start { due, .. }) => due.at,
            action => panic!("{action:?}"),
        };
        schedule.advance(35, 0);
        assert_eq!(start(&mut schedule), 0);
        schedule.advance(40, 1);
        schedule.ended(45, 1, true);
        schedule.advance(65, 0);
        assert_eq!(schedule.take_dropped().missed, 3);
        assert_eq!([(); 3].map(|()| start(&mut schedule)), [40, 50, 60]);
        assert_eq!(schedule.act(65), None);
    }
}
