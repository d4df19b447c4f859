//! What is wrong with a calendar.

use std::fmt;

use super::expression::Fault;

/// A cron expression or a time zone that isn't one. Its text says what was given and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCalendar(Fault);

impl InvalidCalendar {
    pub(super) fn new(fault: Fault) -> InvalidCalendar {
        InvalidCalendar(fault)
    }
}

impl fmt::Display for InvalidCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for InvalidCalendar {}
