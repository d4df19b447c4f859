//! What the options of `#[timer]` may be, and what they become.

use super::attribute;
use crate::tests::{accepts, refuses};

const FUNCTION: &str = "async fn beat(period: Duration, limit: usize, lease: Lease) {}";

/// The builder that `#[timer(args)]` calls, from its constructor to `start`.
#[track_caller]
fn built(args: &str) -> String {
    builder(&accepts(attribute, args, FUNCTION))
}

/// As `built`, with these mistakes; a default is in place of each wrong option.
#[track_caller]
fn built_in_spite(args: &str, says: &[&str]) -> String {
    builder(&refuses(attribute, args, FUNCTION, says))
}

/// Without spaces, and with a length by its seconds and nanoseconds.
fn builder(item: &str) -> String {
    let close: String = item.split_whitespace().collect();
    let (builder, _) = close.split_once(".start(").expect("the start");
    let start = builder
        .rfind("Timer::")
        .or_else(|| builder.rfind("__private::timer::calendar("));
    let builder = &builder[start.expect("a constructor")..];
    builder.replace("::core::time::Duration::new", "")
}

#[test]
fn each_option_becomes_a_call() {
    for (args, expected) in [
        ("100ms", "Timer::every((0u64,100000000u32)).name(\"beat\")"),
        ("period * 2", "Timer::every(period*2).name(\"beat\")"),
        ("period", "Timer::every(period).name(\"beat\")"),
        ("interval * 2", "Timer::every(interval*2).name(\"beat\")"),
        (
            "interval == period",
            "Timer::every(interval==period).name(\"beat\")",
        ),
        ("after = 1s", "Timer::after((1u64,0u32)).name(\"beat\")"),
        ("after = period", "Timer::after(period).name(\"beat\")"),
        (
            "1s, first = now",
            "Timer::every((1u64,0u32)).name(\"beat\")",
        ),
        (
            "1s, first = 5ms",
            "Timer::every((1u64,0u32)).name(\"beat\").first((0u64,5000000u32))",
        ),
        (
            "1s, first = period",
            "Timer::every((1u64,0u32)).name(\"beat\").first(period)",
        ),
        (
            "1s, first = interval",
            "Timer::every(__aioxide_interval).name(\"beat\").first(__aioxide_interval)",
        ),
        (
            "1s, overlap = skip",
            "Timer::every((1u64,0u32)).name(\"beat\").overlap(::aioxide::Overlap::Skip)",
        ),
        (
            "1s, overlap = wait",
            "Timer::every((1u64,0u32)).name(\"beat\").overlap(::aioxide::Overlap::Wait)",
        ),
        (
            "1s, overlap = allow",
            "Timer::every((1u64,0u32)).name(\"beat\").overlap(::aioxide::Overlap::ALLOW)",
        ),
        (
            "1s, overlap = allow(2)",
            "Timer::every((1u64,0u32)).name(\"beat\").overlap(::aioxide::Overlap::Allow(2))",
        ),
        (
            "1s, overlap = queue(limit)",
            "Timer::every((1u64,0u32)).name(\"beat\").overlap(::aioxide::Overlap::Queue(limit))",
        ),
        (
            "1s, overlap = fragment!(queue)(8usize)",
            "Timer::every((1u64,0u32)).name(\"beat\").overlap(::aioxide::Overlap::Queue(8usize))",
        ),
        (
            "1s, missed = burst(3)",
            "Timer::every((1u64,0u32)).name(\"beat\").missed(::aioxide::Missed::Burst(3))",
        ),
        (
            "1s, missed = coalesce",
            "Timer::every((1u64,0u32)).name(\"beat\").missed(::aioxide::Missed::Coalesce)",
        ),
        (
            "1s, jitter = 999ms",
            "Timer::every((1u64,0u32)).name(\"beat\").jitter((0u64,999000000u32))",
        ),
        (
            "period, jitter = 1h",
            "Timer::every(period).name(\"beat\").jitter((3600u64,0u32))",
        ),
        (
            "1s, jitter = period, spread = host",
            "Timer::every((1u64,0u32)).name(\"beat\").jitter(period).spread()",
        ),
        (
            "1s, phase = random",
            "Timer::every((1u64,0u32)).name(\"beat\").phase()",
        ),
        (
            "1s, timeout = 2s, grace = period",
            "Timer::every((1u64,0u32)).name(\"beat\").timeout((2u64,0u32)).grace(period)",
        ),
        (
            "1s, single",
            "Timer::every((1u64,0u32)).name(\"beat\").single()",
        ),
        (
            "1s, single, jitter = 1ms",
            "Timer::every((1u64,0u32)).name(\"beat\").jitter((0u64,1000000u32)).single()",
        ),
        (
            "1s, single = lease, ttl = 15s",
            "Timer::every((1u64,0u32)).name(\"beat\").single_by(::core::clone::Clone::clone(&lease)).ttl((15u64,0u32))",
        ),
        (
            "1s, single, delivery = at_least_once",
            "Timer::every((1u64,0u32)).name(\"beat\").single().delivery(::aioxide::Delivery::AtLeastOnce)",
        ),
        (
            "1s, single, delivery = at_most_once",
            "Timer::every((1u64,0u32)).name(\"beat\").single().delivery(::aioxide::Delivery::AtMostOnce)",
        ),
        (
            "1s, on_error = alerts::report",
            "Timer::every((1u64,0u32)).name(\"beat\").on_error(alerts::report)",
        ),
        (
            "1s, name = \"heart\"",
            "Timer::every((1u64,0u32)).name(\"heart\")",
        ),
        (
            "1s, name = format!(\"{limit}\")",
            "Timer::every((1u64,0u32)).name(format!(\"{limit}\"))",
        ),
    ] {
        assert_eq!(built(args), expected, "{args}");
    }
}

#[test]
fn a_wrong_option_is_told_once_and_left_out() {
    const PLAIN: &str = "Timer::every((1u64,0u32)).name(\"beat\")";
    for (args, says) in [
        ("", "`#[timer]` needs an interval"),
        (
            "single",
            "`single` needs a value, and the interval, which stands first, is missing",
        ),
        (
            "jitter",
            "`jitter` needs a value, and the interval, which stands first, is missing",
        ),
        ("ttl", "`ttl` needs a value, and the interval"),
        ("= 1s", "expected an expression"),
        ("interval = 1s", "the interval stands first and has no name"),
        ("period = 1s", "unknown option `period`"),
        (
            "1s, after = 2s",
            "`after` takes the place of the interval, and both are given",
        ),
        (
            "1s, zone = \"UTC\"",
            "`zone` is that of a calendar, and there is no `cron`",
        ),
        (
            "1s, overlap = 3",
            "`overlap` takes the name of a policy, not `3`",
        ),
        (
            "1s, overlap = \"skip\"",
            "write `overlap = skip`, without quotes",
        ),
        (
            "1s, overlap = \"sometimes\"",
            "not `\"sometimes\"`\nhelp: the policies are `skip`",
        ),
        (
            "1s, overlap = skp",
            "unknown policy `skp` of `overlap`\nhelp: did you mean `skip`?",
        ),
        (
            "1s, overlap = burst(1)",
            "unknown policy `burst` of `overlap`",
        ),
        ("1s, missed = wait", "unknown policy `wait` of `missed`"),
        ("1s, overlap = queue", "`queue` needs a bound"),
        ("1s, overlap = skip(2)", "`skip` takes no bound"),
        ("1s, overlap = queue()", "`queue` takes one bound, not 0"),
        (
            "1s, overlap = queue(1, 2)",
            "`queue` takes one bound, not 2",
        ),
        (
            "1s, overlap = queue(0)",
            "the bound of `queue` is a whole number from 1, not `0`",
        ),
        ("1s, overlap = queue(1u8)", "whole number from 1, not `1u8`"),
        (
            "1s, missed = burst(\"1\")",
            "whole number from 1, not `\"1\"`",
        ),
        (
            "1s, jitter = 1s",
            "`jitter` must be less than the interval, but 1s isn't less than 1s",
        ),
        ("1s, jitter = 2s", "`jitter` must be less than the interval"),
        (
            "1s, phase = first",
            "`phase` can only be `random`, not `first`",
        ),
        (
            "1s, spread = host",
            "`spread` is a part of the jitter, and there is no `jitter`",
        ),
        (
            "1s, ttl = host",
            "`ttl` is that of a lease, and there is none",
        ),
        (
            "1s, delivery = at_most_once",
            "`delivery` says what counts when another goes on, which needs `single`",
        ),
        (
            "1s, on_error = |error| {}",
            "`on_error` takes the path of a function, not",
        ),
        (
            "1s, on_error = <T>::report",
            "`on_error` takes the path of a function, not",
        ),
        ("1s, name = 5", "`name` takes a text, not `5`"),
        (
            "1s, crate = \"aioxide\"",
            "`crate` takes the path of the aioxide crate",
        ),
    ] {
        let built = built_in_spite(args, &[says]);
        let kept = built
            .replace(".ttl(host)", "")
            .replace(".delivery(::aioxide::Delivery::AtMostOnce)", "");
        assert_eq!(kept, PLAIN, "{args}");
    }
}

#[test]
fn options_that_say_nothing_together() {
    for (args, says) in [
        (
            "after = 1s, missed = skip",
            &["`missed` says nothing with `after`"][..],
        ),
        (
            "after = 1s, jitter = 1s",
            &["`jitter` must be less than the interval"],
        ),
        (
            "after = 1s, single",
            &["`single` needs due times that all share"],
        ),
        (
            "after = 1s, single, first = now, phase = random",
            &["`single` needs due times that all share"],
        ),
        (
            "1s, single, first = now",
            &["`first` says nothing with `single`"],
        ),
        (
            "1s, single, phase = random",
            &["`phase` says nothing with `single`"],
        ),
        ("1s, single, ttl = 5s", &["`ttl` is that of a lease"]),
        (
            "1s, single, delivery = never",
            &["`delivery` can't be `never`"],
        ),
        (
            "1s, single =, ttl = 5s, delivery = at_most_once",
            &["`single` needs a value after the `=`"],
        ),
        (
            "1s, ttl = 5s, delivery = at_least_once",
            &["`ttl` is that", "`delivery` says"],
        ),
        (
            "1s, jitter = 1ms, spread = all",
            &["`spread` can only be `host`, not `all`"],
        ),
        ("1s, spread = 3", &["`spread` can only be `host`, not `3`"]),
        ("1s, jitter, spread = host", &["`jitter` needs a value"]),
    ] {
        built_in_spite(args, says);
    }
    let built = built_in_spite("1s, jitter = 1ms, spread = all", &["can only be `host`"]);
    assert!(
        built.contains(".jitter") && !built.contains(".spread"),
        "{built}"
    );
    let built = built_in_spite("after = 1s, single", &["share"]);
    assert!(!built.contains(".single"), "{built}");
}

#[test]
fn an_option_is_no_interval_unless_an_argument_is_called_so() {
    let function = "async fn beat(timeout: Duration) {}";
    let item = accepts(attribute, "timeout", function);
    assert_eq!(builder(&item), "Timer::every(timeout).name(\"beat\")");
    refuses(
        attribute,
        "jitter",
        function,
        &["`jitter` needs a value, and the interval"],
    );
    refuses(
        attribute,
        "jitter",
        "async fn beat((jitter, a): A) {}",
        &["`jitter` needs a value"],
    );
    let item = accepts(attribute, "jitters", function);
    assert_eq!(builder(&item), "Timer::every(jitters).name(\"beat\")");
}

/// What patterns bind is there for expressions, and only for those.
#[test]
fn expressions_see_what_arguments_bind() {
    let bound = |args: &str| {
        let item = accepts(attribute, args, "async fn beat((a, b): (A, B)) {}");
        item.contains("let (a , b) = :: core :: clone :: Clone :: clone (& __aioxide_arg0)")
    };
    for args in [
        "a",
        "after = a",
        "1s, first = a",
        "1s, overlap = queue(a)",
        "1s, missed = burst(a)",
        "1s, jitter = a",
        "1s, timeout = a",
        "1s, grace = a",
        "1s, single = a",
        "1s, single = lease, ttl = a",
        "1s, name = a",
    ] {
        assert!(bound(args), "{args}");
    }
    for args in [
        "1s",
        "after = 1s",
        "1s, first = interval",
        "1s, first = 1ms, overlap = skip, missed = skip",
        "1s, jitter = 1ms, timeout = 1s, grace = 1s, single, name = \"a\"",
    ] {
        assert!(!bound(args), "{args}");
    }
}

#[cfg(feature = "calendar")]
mod calendar {
    use super::{built, built_in_spite};

    fn calendar(cron: &str, zone: &str) -> String {
        format!(
            "__private::timer::calendar({{static__AIOXIDE_CRON:::aioxide::__private::timer::Cron=\
             ::aioxide::__private::timer::Cron::new(\"{cron}\");&__AIOXIDE_CRON}},\"{zone}\").name(\"beat\")"
        )
    }

    #[test]
    fn expression_and_zone() {
        assert_eq!(built("cron = \"@daily\""), calendar("@daily", "UTC"));
        assert_eq!(
            built("cron = \"@daily\", zone = \"Asia/Seoul\""),
            calendar("@daily", "Asia/Seoul")
        );
        assert_eq!(
            built("cron = \"@daily\", jitter = 48h, spread = host, single"),
            calendar("@daily", "UTC") + ".jitter((172800u64,0u32)).spread().single()"
        );
    }

    #[test]
    fn what_is_no_date_is_told_when_it_is_compiled() {
        for (args, says) in [
            ("cron = \"@dayly\"", &["`cron`: "][..]),
            ("cron = \"@daily\", zone = \"Asia/Seol\"", &["`zone`: "]),
            (
                "cron = \"@dayly\", zone = \"Asia/Seol\"",
                &["`cron`: ", "`zone`: "],
            ),
            ("cron = \"@daily\", zone = \"Asia/Seol\"", &["Asia/Seol"]),
            (
                "cron = daily",
                &["`cron` takes a text that is known when the program is compiled, not `daily`"],
            ),
            (
                "cron = \"@daily\", zone = 9",
                &["`zone` takes a text that is known"],
            ),
            (
                "1s, cron = \"@daily\"",
                &["`cron` takes the place of the interval"],
            ),
            (
                "after = 1s, cron = \"@daily\"",
                &["`cron` takes the place of `after`"],
            ),
            (
                "cron = \"@daily\", first = now",
                &["`first` says nothing with `cron`"],
            ),
            (
                "cron = \"@daily\", phase = random",
                &["`phase` says nothing with `cron`"],
            ),
        ] {
            built_in_spite(args, says);
        }
    }
}

#[cfg(not(feature = "calendar"))]
#[test]
fn a_calendar_needs_its_feature() {
    built_in_spite(
        "cron = \"@dayly\"",
        &["`cron` needs the feature `calendar` of aioxide"],
    );
}
