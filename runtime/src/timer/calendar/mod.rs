//! Due times by the calendar.

mod dues;
mod error;
mod expression;
#[cfg(test)]
mod table;
mod zone;

pub(super) use dues::Calendar;
pub use error::InvalidCalendar;
pub(super) use expression::Expression;
