//! What `cron` and `zone` may be. Expressions and zones are read by files of the runtime's, so that both refuse the same.

#[allow(dead_code, reason = "the runtime uses the rest of it")]
mod expression;
mod zone;

use expression::{Expression, Fault};

/// What is wrong, and what is allowed.
pub(super) type Wrong = (String, String);

pub(super) fn check_expression(text: &str) -> Result<(), Wrong> {
    Expression::parse(text).map(drop).map_err(wrong)
}

pub(super) fn check_zone(name: &str) -> Result<(), Wrong> {
    zone::zone(name).map(drop).map_err(wrong)
}

fn wrong(Fault { what, help }: Fault) -> Wrong {
    (what, help)
}
