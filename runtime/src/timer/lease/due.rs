//! A due time as stores keep it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::LeaseError;

/// A due time in nanoseconds since the epoch; SQL's integers have a sign.
pub(super) fn nanos(name: &str, due: SystemTime) -> Result<i64, LeaseError> {
    let since = due.duration_since(UNIX_EPOCH).ok();
    since
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .ok_or_else(|| {
            LeaseError::store(
                format!("record how far the work of lease `{name}` is"),
                format!("the due time {due:?} is outside the years 1970 to 2262"),
            )
        })
}

/// The due time of these nanoseconds, unless they are negative.
pub(super) fn due(nanos: i64) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_it_cannot_keep() {
        let early = UNIX_EPOCH - Duration::from_nanos(1);
        let error = nanos("report", early).expect_err("the epoch is the earliest");
        assert!(error.to_string().contains("`report`"), "{error}");
        assert!(nanos("report", UNIX_EPOCH + Duration::from_secs(1 << 40)).is_err());
        assert_eq!(due(-1), None);
    }
}
