//! How far the work is, as a line of text.

use std::time::SystemTime;

use super::due;
use super::types::Progress;

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
    Some((due::due(nanos.parse().ok()?)?, at))
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
            prop_assert_eq!((due::nanos("test", time).expect("it was in range"), at), a);
        }
    }

    #[test]
    fn refuses_what_it_has_not_made() {
        for text in ["", "1", "1 done=maybe", "-1 done=true", "x done=true"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
