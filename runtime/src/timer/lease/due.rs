//! A due time and its progress as stores keep them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::LeaseError;
use super::types::Progress;

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

/// As text, which is ordered as the due times and their progress are.
pub(super) fn encode(nanos: i64, at: Progress) -> String {
    format!("{nanos:019} done={}", at == Progress::Done)
}

/// What [`encode`] has made.
pub(super) fn decode(text: &str) -> Option<(SystemTime, Progress)> {
    let (nanos, done) = text.split_once(" done=")?;
    let at = match done {
        "true" => Progress::Done,
        "false" => Progress::Started,
        _ => return None,
    };
    Some((due(nanos.parse().ok()?)?, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn progress() -> impl Strategy<Value = Progress> {
        prop_oneof![Just(Progress::Started), Just(Progress::Done)]
    }

    proptest! {
        #[test]
        fn comes_back_and_keeps_its_order(a in (0..=i64::MAX, progress()), b in (0..=i64::MAX, progress())) {
            let (one, other) = (encode(a.0, a.1), encode(b.0, b.1));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
            let (time, at) = decode(&one).expect("it was encoded");
            prop_assert_eq!((nanos("test", time).expect("it was in range"), at), a);
        }
    }

    #[test]
    fn refuses_what_it_cannot_keep() {
        let early = UNIX_EPOCH - Duration::from_nanos(1);
        let error = nanos("report", early).expect_err("the epoch is the earliest");
        assert!(error.to_string().contains("`report`"), "{error}");
        assert!(nanos("report", UNIX_EPOCH + Duration::from_secs(1 << 40)).is_err());
        for text in ["", "1", "1 done=maybe", "-1 done=true", "x done=true"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
