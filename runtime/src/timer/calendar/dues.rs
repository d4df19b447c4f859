//! When a cron expression is due in a time zone.
//!
//! Where the clock of a zone is put forward or back by less than three hours, it follows Debian's cron(8): a job at a
//! fixed time that is passed over runs right after the gap, and one whose time comes twice runs the first time; a job
//! that goes by elapsed time, because its minute or hour has a `*` or a step, runs whenever the clock shows its time. A
//! change of three hours or more, such as a day that an island leaves out, is a correction: the new time counts, and
//! nothing else.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::error::InvalidCalendar;
use super::expression::Expression;
use crate::timer::schedule::{Dues, NEVER, Nanos};

const SECOND: Nanos = 1_000_000_000;

/// A change of the clock by as much is a correction.
const CORRECTION: i64 = 3 * 3600;

/// How far a due time is looked for: no expression has a longer gap, of the leap days on a certain weekday around 2100.
const HORIZON: i64 = 50 * 366 * 86_400;

#[derive(Clone)]
pub(in crate::timer) struct Calendar {
    expression: Arc<Expression>,
    zone: TimeZone,
    /// That of the time that was last asked about.
    stretch: Stretch,
}

/// A stretch of time in which the zone's clock isn't changed, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: i64,
    until: i64,
    /// The zone's clock is ahead of UTC by so many seconds.
    offset: i32,
    /// How much it was ahead before.
    before: i32,
}

/// Where in a stretch what the zone's clock shows counts.
enum First {
    From(i64),
    /// A job that was passed over runs in the second before.
    After(i64),
}

impl Calendar {
    pub(in crate::timer) fn read(expression: &str) -> Result<Expression, InvalidCalendar> {
        Expression::parse(expression).map_err(InvalidCalendar::new)
    }

    pub(in crate::timer) fn new(
        expression: Arc<Expression>,
        zone: &str,
    ) -> Result<Calendar, InvalidCalendar> {
        let zone = super::zone::zone(zone).map_err(InvalidCalendar::new)?;
        let nothing = Stretch {
            from: 0,
            until: 0,
            offset: 0,
            before: 0,
        };
        Ok(Calendar {
            expression,
            zone,
            stretch: nothing,
        })
    }

    pub(in crate::timer) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first second after this one that it is due in.
    fn next(&mut self, second: i64) -> Option<i64> {
        let horizon = second.saturating_add(HORIZON);
        let mut at = second.checked_add(1)?;
        while at < horizon {
            let stretch = self.stretch(at)?;
            let (until, offset) = (stretch.until, i64::from(stretch.offset));
            let first = match self.first_in(stretch, at) {
                First::After(_) => return Some(at),
                First::From(first) => first,
            };
            let last = until.min(horizon);
            let local = self.expression.first_within(first + offset, last + offset);
            if let Some(local) = local {
                return Some(local - offset);
            }
            at = until;
        }
        None
    }

    /// In how many seconds of `[from, until)` it is due.
    fn dues_within(&mut self, from: i64, until: i64) -> u64 {
        let (mut at, mut count) = (from, 0);
        while at < until {
            let Some(stretch) = self.stretch(at) else {
                break;
            };
            let first = match self.first_in(stretch, at) {
                First::After(next) => {
                    count += 1;
                    next
                }
                First::From(first) => first,
            };
            let (last, offset) = (stretch.until.min(until), i64::from(stretch.offset));
            count += self.expression.count_within(first + offset, last + offset);
            at = stretch.until;
        }
        count
    }

    /// Where in a stretch, from `at` on, what the zone's clock shows counts.
    fn first_in(&self, stretch: Stretch, at: i64) -> First {
        let (from, offset) = (stretch.from, i64::from(stretch.offset));
        let before = i64::from(stretch.before);
        if self.expression.by_elapsed_time() {
            return First::From(at);
        }
        let forward = offset - before;
        if at == from && (1..CORRECTION).contains(&forward) {
            let passed_over = self.expression.first_within(from + before, from + offset);
            if passed_over.is_some() {
                return First::After(at + 1);
            }
        }
        if (1..CORRECTION).contains(&-forward) {
            // Not what the clock shows for the second time.
            return First::From(at.max(from - forward));
        }
        First::From(at)
    }

    fn stretch(&mut self, at: i64) -> Option<Stretch> {
        if !(self.stretch.from..self.stretch.until).contains(&at) {
            let now = Timestamp::from_second(at).ok()?;
            let after = Timestamp::from_second(at + 1).ok()?;
            let offset_at = |at: Timestamp| self.zone.to_offset(at).seconds();
            let offset = offset_at(now);
            let from = self.zone.preceding(after).next();
            let from = from.map_or(i64::MIN, |change| change.timestamp().as_second());
            let until = self.zone.following(now).next();
            let until = until.map_or(i64::MAX, |change| change.timestamp().as_second());
            let before = from.checked_sub(1).map(Timestamp::from_second);
            let before = match before {
                Some(Ok(before)) => offset_at(before),
                _ => offset,
            };
            self.stretch = Stretch {
                from,
                until,
                offset,
                before,
            };
        }
        Some(self.stretch)
    }
}

impl Dues for Calendar {
    fn after(&mut self, at: Nanos) -> Nanos {
        let second = i64::try_from(at / SECOND).unwrap_or(i64::MAX);
        let next = self.next(second).and_then(|next| u64::try_from(next).ok());
        next.and_then(|next| next.checked_mul(SECOND))
            .unwrap_or(NEVER)
    }

    fn count(&mut self, after: Nanos, until: Nanos) -> u64 {
        let from = |at: Nanos| i64::try_from(at / SECOND).map_or(i64::MAX, |second| second + 1);
        self.dues_within(from(after), from(until))
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calendar")
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}
