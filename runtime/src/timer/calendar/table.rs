//! What becomes of due times where clocks are put forward and back: a table of cases, and a model that goes through the
//! minutes one by one, as Debian's cron does.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::dues::Calendar;
use super::expression::Expression;
use crate::timer::schedule::{Cadence, Dues, Irregular, Missed, NEVER, Overlap, Rules, Schedule};

const SECOND: u64 = 1_000_000_000;

fn calendar(expression: &str, zone: &str) -> Calendar {
    let expression = Expression::parse(expression).unwrap();
    Calendar::new(Arc::new(expression), zone).unwrap()
}

/// The due times of `expression` in `[from, until)`, in seconds.
fn dues(expression: &str, zone: &str, from: i64, until: i64) -> Vec<i64> {
    let mut calendar = calendar(expression, zone);
    let mut dues = Vec::new();
    let mut at = (from as u64) * SECOND - 1;
    loop {
        at = calendar.after(at);
        if at == NEVER || at >= until as u64 * SECOND {
            return dues;
        }
        assert_eq!(at % SECOND, 0);
        dues.push((at / SECOND) as i64);
    }
}

/// As texts in the zone, with the offset.
fn told(expression: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let second = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    let zone_of = TimeZone::get(zone).unwrap();
    let dues = dues(expression, zone, second(from), second(until));
    let told = dues.into_iter().map(|due| {
        let due = Timestamp::from_second(due).unwrap();
        let offset = zone_of.to_offset(due).seconds() / 60;
        let local = Timestamp::from_second(due.as_second() + i64::from(offset) * 60).unwrap();
        let text = local.to_string();
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
        format!(
            "{} {}{sign}{hours}:{minutes:02}",
            &text[5..10],
            &text[11..16]
        )
    });
    told.collect()
}

/// Expression, zone, and the stretch of time that is looked at; what is due there.
type Case = (
    &'static str,
    &'static str,
    (&'static str, &'static str),
    &'static [&'static str],
);

/// New York: forward from 02:00 on 10 March, back at 02:00 on 3 November 2024.
const SPRING: (&str, &str) = ("2024-03-09T12:00:00Z", "2024-03-11T12:00:00Z");
const AUTUMN: (&str, &str) = ("2024-11-02T12:00:00Z", "2024-11-04T12:00:00Z");

const TABLE: [Case; 24] = [
    // Fixed times in a gap run right after it.
    (
        "30 2 * * *",
        "America/New_York",
        SPRING,
        &["03-10 03:00-4:00", "03-11 02:30-4:00"],
    ),
    (
        "0 2 * * *",
        "America/New_York",
        SPRING,
        &["03-10 03:00-4:00", "03-11 02:00-4:00"],
    ),
    (
        "0 3 * * *",
        "America/New_York",
        SPRING,
        &["03-10 03:00-4:00", "03-11 03:00-4:00"],
    ),
    // Once, if it would run then anyhow, and once for several.
    (
        "0 2,3 * * *",
        "America/New_York",
        SPRING,
        &["03-10 03:00-4:00", "03-11 02:00-4:00", "03-11 03:00-4:00"],
    ),
    (
        "10,50 2 * * *",
        "America/New_York",
        SPRING,
        &["03-10 03:00-4:00", "03-11 02:10-4:00", "03-11 02:50-4:00"],
    ),
    // Only on days that match.
    (
        "30 2 11 * *",
        "America/New_York",
        SPRING,
        &["03-11 02:30-4:00"],
    ),
    (
        "30 2 * * sun",
        "America/New_York",
        SPRING,
        &["03-10 03:00-4:00"],
    ),
    // What goes by elapsed time shows what the clock shows.
    (
        "*/20 2 * * *",
        "America/New_York",
        SPRING,
        &["03-11 02:00-4:00", "03-11 02:20-4:00", "03-11 02:40-4:00"],
    ),
    (
        "30 */3 10 3 *",
        "America/New_York",
        SPRING,
        &[
            "03-10 00:30-5:00",
            "03-10 03:30-4:00",
            "03-10 06:30-4:00",
            "03-10 09:30-4:00",
            "03-10 12:30-4:00",
            "03-10 15:30-4:00",
            "03-10 18:30-4:00",
            "03-10 21:30-4:00",
        ],
    ),
    (
        "0 * * * *",
        "America/New_York",
        ("2024-03-10T05:30:00Z", "2024-03-10T08:30:00Z"),
        &["03-10 01:00-5:00", "03-10 03:00-4:00", "03-10 04:00-4:00"],
    ),
    // Fixed times that come twice run the first time.
    (
        "30 1 * * *",
        "America/New_York",
        AUTUMN,
        &["11-03 01:30-4:00", "11-04 01:30-5:00"],
    ),
    (
        "0 1-3 * * *",
        "America/New_York",
        ("2024-11-03T04:30:00Z", "2024-11-03T12:00:00Z"),
        &["11-03 01:00-4:00", "11-03 02:00-5:00", "11-03 03:00-5:00"],
    ),
    (
        "0 2 * * *",
        "America/New_York",
        AUTUMN,
        &["11-03 02:00-5:00", "11-04 02:00-5:00"],
    ),
    (
        "*/30 1 * * *",
        "America/New_York",
        ("2024-11-03T04:30:00Z", "2024-11-03T12:00:00Z"),
        &[
            "11-03 01:00-4:00",
            "11-03 01:30-4:00",
            "11-03 01:00-5:00",
            "11-03 01:30-5:00",
        ],
    ),
    (
        "@hourly",
        "America/New_York",
        ("2024-11-03T04:30:00Z", "2024-11-03T08:30:00Z"),
        &[
            "11-03 01:00-4:00",
            "11-03 01:00-5:00",
            "11-03 02:00-5:00",
            "11-03 03:00-5:00",
        ],
    ),
    // Half an hour, on the southern side.
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        ("2024-10-05T00:00:00Z", "2024-10-07T00:00:00Z"),
        &["10-06 02:30+11:00", "10-07 02:15+11:00"],
    ),
    (
        "45 1 * * *",
        "Australia/Lord_Howe",
        ("2024-04-06T00:00:00Z", "2024-04-08T00:00:00Z"),
        &["04-07 01:45+11:00", "04-08 01:45+10:30"],
    ),
    // At midnight.
    (
        "15 0 * * *",
        "Africa/Cairo",
        ("2024-04-25T12:00:00Z", "2024-04-27T12:00:00Z"),
        &["04-26 01:00+3:00", "04-27 00:15+3:00"],
    ),
    (
        "30 23 * * *",
        "Africa/Cairo",
        ("2024-10-31T12:00:00Z", "2024-11-01T23:00:00Z"),
        &["10-31 23:30+3:00", "11-01 23:30+2:00"],
    ),
    // In the zone that is an hour ahead in winter, by name.
    (
        "30 1 * * *",
        "Europe/Dublin",
        ("2024-03-30T12:00:00Z", "2024-04-01T12:00:00Z"),
        &["03-31 02:00+1:00", "04-01 01:30+1:00"],
    ),
    // A day that is left out is a correction.
    (
        "0 3 * * *",
        "Pacific/Apia",
        ("2011-12-29T12:00:00Z", "2012-01-01T12:00:00Z"),
        &[
            "12-29 03:00-10:00",
            "12-31 03:00+14:00",
            "01-01 03:00+14:00",
            "01-02 00:00",
        ],
    ),
    (
        "0 0 30 12 *",
        "Pacific/Apia",
        ("2011-12-29T12:00:00Z", "2012-01-02T12:00:00Z"),
        &[],
    ),
    (
        "0 */8 * * *",
        "Pacific/Apia",
        ("2011-12-30T02:00:00Z", "2011-12-31T03:00:00Z"),
        &[
            "12-29 16:00-10:00",
            "12-31 00:00+14:00",
            "12-31 08:00+14:00",
            "12-31 16:00+14:00",
        ],
    ),
    // Where no clock is ever changed.
    (
        "30 2 * * *",
        "Asia/Seoul",
        ("2024-03-09T12:00:00Z", "2024-03-11T12:00:00Z"),
        &["03-10 02:30+9:00", "03-11 02:30+9:00"],
    ),
];

#[test]
fn due_times_where_clocks_are_changed() {
    let mut failures = Vec::new();
    for (expression, zone, (from, until), expected) in TABLE {
        let expected: Vec<&str> = expected
            .iter()
            .copied()
            .filter(|due| due.len() > 11)
            .collect();
        let told = told(expression, zone, from, until);
        if told != expected {
            failures.push(format!(
                "{expression} in {zone}: {told:?}, not {expected:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// As Debian's cron goes through the minutes, but for what runs in one minute, which is told once.
fn minute_by_minute(expression: &str, zone: &str, from: i64, until: i64) -> Vec<i64> {
    let zone = TimeZone::get(zone).unwrap();
    let parsed = Expression::parse(expression).unwrap();
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let wild = fields[..2].iter().any(|field| field.contains(['*', '/']));
    let local = |at: i64| {
        let at = Timestamp::from_second(at).unwrap();
        (at.as_second() + i64::from(zone.to_offset(at).seconds())).div_euclid(60)
    };
    let matches = |minute: i64| parsed.first_within(minute * 60, minute * 60 + 1).is_some();
    let mut dues = Vec::new();
    let start = from.div_euclid(60) * 60 - 86_400;
    let mut virtual_minute = local(start) - 1;
    let mut at = start;
    while at < until {
        let shown = local(at);
        let difference = shown - virtual_minute;
        let due = if (2..=180).contains(&difference) {
            // The clock was put forward: wildcard jobs of now, the others of all minutes that were passed over.
            let missed = virtual_minute + 1..=shown;
            virtual_minute = shown;
            if wild {
                matches(shown)
            } else {
                missed.into_iter().any(matches)
            }
        } else if (-179..=0).contains(&difference) {
            // It was put back: the others wait until it has caught up.
            wild && matches(shown)
        } else {
            virtual_minute = shown;
            matches(shown)
        };
        if due && at >= from {
            dues.push(at);
        }
        at += 60;
    }
    dues
}

const ZONES: [&str; 9] = [
    "UTC",
    "America/New_York",
    "Europe/Dublin",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Seoul",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Tehran",
];

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        4 => (low..=high).prop_map(|value| value.to_string()),
        1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
        1 => (low..high).prop_map(move |from| format!("{from}-{high}")),
        1 => (2..9u32).prop_map(|step| format!("*/{step}")),
    ]
}

fn day() -> impl Strategy<Value = (String, String, String)> {
    let any = || "*".to_owned();
    prop_oneof![
        6 => Just((any(), any(), any())),
        1 => (1..29u32).prop_map(move |day| (day.to_string(), any(), any())),
        1 => (0..8u32).prop_map(move |day| (any(), any(), day.to_string())),
        1 => (1..29u32, 0..8u32).prop_map(move |(a, b)| (a.to_string(), any(), b.to_string())),
        1 => (1..13u32).prop_map(move |month| (any(), month.to_string(), any())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    /// A year each, from any day of thirty years.
    #[test]
    fn due_times_are_those_of_a_walk_through_all_minutes(
        minute in field(0, 59),
        hour in field(0, 23),
        (of_month, month, weekday) in day(),
        zone in prop::sample::select(&ZONES[..]),
        day in 7305..18_262i64, // from 1990 to 2020
    ) {
        let expression = format!("{minute} {hour} {of_month} {month} {weekday}");
        let (from, until) = (day * 86_400, (day + 366) * 86_400);
        let due = dues(&expression, zone, from, until);
        let walked = minute_by_minute(&expression, zone, from, until);
        prop_assert_eq!(due, walked, "{} in {}", expression, zone);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Over some days, from any second of thirty years, and over the changes of the zone's clock among them.
    #[test]
    fn as_many_are_counted_as_come(
        minute in field(0, 59),
        hour in field(0, 23),
        (of_month, month, weekday) in day(),
        zone in prop::sample::select(&ZONES[..]),
        from in 7305 * 86_400..18_262 * 86_400i64,
        length in prop_oneof![0..100_000i64, 0..200 * 86_400i64],
    ) {
        let expression = format!("{minute} {hour} {of_month} {month} {weekday}");
        let due = dues(&expression, zone, from, from + length).len() as u64;
        let mut calendar = calendar(&expression, zone);
        let before = |second: i64| second as u64 * SECOND - 1;
        let counted = calendar.count(before(from), before(from + length));
        prop_assert_eq!(due, counted, "{} in {}", expression, zone);
    }
}

#[test]
fn the_clock_of_a_machine_that_starts_in_1970_is_set_at_once() {
    let rules = Rules {
        cadence: Cadence::Clock,
        overlap: Overlap::Skip,
        missed: Missed::Coalesce,
        jitter: 0,
        shift: 0,
    };
    let now = 1_780_000_000 * SECOND;
    for (expression, passed) in [
        ("* * * * *", 29_666_666),
        ("* * * * * *", 1_780_000_000),
        ("0 3 * * *", 20_602),
    ] {
        let irregular = Irregular::new(calendar(expression, "UTC"), 0);
        let mut schedule = Schedule::by_clock(rules, Box::new(irregular), 0, 7);
        schedule.look(now);
        schedule.advance(now, 0);
        assert_eq!(schedule.take_dropped().missed, passed - 1, "{expression}");
    }
}

#[test]
fn a_year_of_seconds_is_counted_to_the_last() {
    let mut calendar = calendar("*/30 * * * * *", "Europe/Dublin");
    let (from, until) = (1_704_067_200 * SECOND, 1_735_689_600 * SECOND);
    let (mut at, mut count) = (from, 0);
    while at < until {
        let next = calendar.after(at);
        assert_eq!(next - at, 30 * SECOND);
        at = next;
        count += 1;
    }
    assert_eq!(count, 366 * 2880);
}

#[test]
fn the_end_of_time_is_never() {
    for zone in ["UTC", "America/New_York", "local"] {
        let mut calendar = calendar("* * * * *", zone);
        assert_eq!(calendar.after(NEVER - 1), NEVER);
        assert_eq!(calendar.after(0), 60 * SECOND);
    }
    let mut leap = calendar("0 0 29 2 +mon", "UTC");
    let first = leap.after(1_735_689_600 * SECOND);
    assert_eq!(first / SECOND, 2_340_316_800);
}
