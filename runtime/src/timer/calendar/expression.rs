//! Cron expressions: what is allowed in each field, and on which days and at which times of day they match.
//!
//! `aioxide-macros` has this file too, by a link: what the attribute refuses and what `Timer::calendar` refuses is the
//! same.

use std::fmt;

use croner::parser::{CronParser, Year};
use croner::{CronPattern, Weekday};

/// Days from 1970-01-01.
pub(crate) type Day = i64;

const DAY: i64 = 86_400;

/// In which years a day is looked for before an expression is said never to come.
const YEARS: (i64, i64) = (2001, 2101);

/// What is wrong with an expression, or with a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    /// What is allowed.
    pub(crate) help: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.help)
    }
}

struct Field {
    name: &'static str,
    allowed: &'static str,
    /// Letters and signs besides `*`, `,`, `-`, `/` and digits.
    signs: &'static str,
    words: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 6] = [
    Field {
        name: "second",
        allowed: "0 to 59",
        signs: "",
        words: &[],
    },
    Field {
        name: "minute",
        allowed: "0 to 59",
        signs: "",
        words: &[],
    },
    Field {
        name: "hour",
        allowed: "0 to 23",
        signs: "",
        words: &[],
    },
    Field {
        name: "day of the month",
        allowed: "1 to 31, `L` for the last one, `15W` for the weekday nearest to the 15th",
        signs: "lw?",
        words: &[],
    },
    Field {
        name: "month",
        allowed: "1 to 12, `jan` to `dec`",
        signs: "",
        words: &MONTHS,
    },
    Field {
        name: "weekday",
        allowed: "0 to 7 where 0 and 7 are Sunday, `sun` to `sat`, `mon#2` for the second Monday, `friL` for the last Friday",
        signs: "l#?+",
        words: &WEEKDAYS,
    },
];

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A cron expression that has been read.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// Bit by bit.
    seconds: u64,
    minutes: u64,
    hours: u64,
    /// Of an expression that is due on some days only: a pattern takes kilobytes, which thousands of timers are not to have
    /// spread over memory for nothing.
    days: Option<Box<CronPattern>>,
    by_elapsed_time: bool,
}

impl Expression {
    pub(crate) fn parse(text: &str) -> Result<Expression, Fault> {
        let named = NICKNAMES
            .iter()
            .find(|(name, _)| text.trim().eq_ignore_ascii_case(name));
        if named.is_none() && text.trim().starts_with('@') {
            return Err(Fault {
                what: format!("`{}` isn't the name of an expression", text.trim()),
                help: "the names are `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` and `@annually`".to_owned(),
            });
        }
        let expression = named.map_or(text, |(_, expression)| *expression);
        let mut fields: Vec<&str> = expression.split_whitespace().collect();
        if !matches!(fields.len(), 5 | 6) {
            let count = match fields.len() {
                1 => "1 field".to_owned(),
                count => format!("{count} fields"),
            };
            return Err(Fault {
                what: format!("`{text}` has {count}"),
                help: "a cron expression has five, minute, hour, day of the month, month and weekday, or six with the second in front: write for example `0 3 * * mon-fri`".to_owned(),
            });
        }
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        for (at, field) in FIELDS.iter().enumerate() {
            field.check(at, fields[at])?;
        }
        let wild = |field: &str| field.contains(['*', '/']);
        let pattern = pattern(&fields).map_err(|error| Fault {
            what: format!("`{text}` isn't a cron expression: {error}"),
            help: "write for example `0 3 * * mon-fri`".to_owned(),
        })?;
        let bits = |matches: &dyn Fn(u32) -> Result<bool, croner::errors::CronError>, count| {
            (0..count)
                .filter(|&value| matches(value).unwrap_or(false))
                .fold(0, |bits, value| bits | 1u64 << value)
        };
        let expression = Expression {
            seconds: bits(&|value| pattern.second_match(value), 60),
            minutes: bits(&|value| pattern.minute_match(value), 60),
            hours: bits(&|value| pattern.hour_match(value), 24),
            by_elapsed_time: wild(fields[1]) || wild(fields[2]),
            days: fields[3..]
                .iter()
                .any(|field| *field != "*")
                .then(|| Box::new(pattern)),
        };
        let (from, to) = YEARS;
        let years = days_before(from, 1, 1)..days_before(to, 1, 1);
        if !years.into_iter().any(|day| expression.is_on(day)) {
            return Err(Fault {
                what: format!("`{text}` never comes"),
                help: format!(
                    "no month of {} has a day {}: choose another day of the month or another month",
                    fields[4], fields[3]
                ),
            });
        }
        Ok(expression)
    }

    /// Whether it goes by elapsed time where the clock is put forward or back, because its minute or hour has a `*` or
    /// a step.
    pub(crate) fn by_elapsed_time(&self) -> bool {
        self.by_elapsed_time
    }

    /// The first match in `[from, until)`, in seconds of a clock that knows no zone.
    pub(crate) fn first_within(&self, from: i64, until: i64) -> Option<i64> {
        let mut at = from;
        while at < until {
            let (day, second) = (at.div_euclid(DAY), at.rem_euclid(DAY));
            let found = self.is_on(day).then(|| self.time_of_day(second)).flatten();
            if let Some(second) = found {
                let found = day * DAY + second;
                return (found < until).then_some(found);
            }
            at = (day + 1) * DAY;
        }
        None
    }

    /// How many matches there are in `[from, until)`.
    pub(crate) fn count_within(&self, from: i64, until: i64) -> u64 {
        if from >= until {
            return 0;
        }
        let (first, last) = (from.div_euclid(DAY), until.div_euclid(DAY));
        let on = |day| u64::from(self.is_on(day));
        let before = |at: i64| self.count_before(at.rem_euclid(DAY));
        let whole: u64 = (first..last).map(on).sum();
        whole * self.count_before(DAY) + on(last) * before(until) - on(first) * before(from)
    }

    /// How many times of day match before this second.
    fn count_before(&self, second: i64) -> u64 {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let below = |bits: u64, end: i64| u64::from((bits & ((1 << end) - 1)).count_ones());
        let in_minute = below(self.seconds, 60);
        let mut count = below(self.hours, hour) * below(self.minutes, 60) * in_minute;
        if self.hours & 1 << hour != 0 {
            count += below(self.minutes, minute) * in_minute;
            if self.minutes & 1 << minute != 0 {
                count += below(self.seconds, second);
            }
        }
        count
    }

    fn is_on(&self, day: Day) -> bool {
        let Some(days) = &self.days else {
            return true;
        };
        let (year, month, of_month) = date_of(day);
        let weekday = WEEK[(day + 4).rem_euclid(7) as usize];
        // What croner can't tell is no match: the search goes on with the next day.
        days.month_match(month).unwrap_or(false)
            && days
                .day_match(year as i32, month, of_month, weekday)
                .unwrap_or(false)
    }

    /// The first time of day from `second` on.
    fn time_of_day(&self, second: i64) -> Option<i64> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let (mut hour, mut minute) = (hour as u32, minute as u32);
        let mut found = None;
        if self.hours & 1 << hour != 0 {
            if self.minutes & 1 << minute != 0 {
                found = first_bit(self.seconds, second as u32);
            }
            if found.is_none() {
                if let Some(next) = first_bit(self.minutes, minute + 1) {
                    minute = next;
                    found = first_bit(self.seconds, 0);
                }
            }
        }
        if found.is_none() {
            hour = first_bit(self.hours, hour + 1)?;
            minute = first_bit(self.minutes, 0)?;
            found = first_bit(self.seconds, 0);
        }
        found.map(|second| i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second))
    }
}

impl Field {
    fn check(&self, at: usize, text: &str) -> Result<(), Fault> {
        let mut fields = ["0", "*", "*", "*", "*", "*"];
        fields[at] = text;
        if self.has_only_known_words(text) && pattern(&fields).is_ok() {
            return Ok(());
        }
        Err(Fault {
            what: format!("the {} can't be `{text}`", self.name),
            help: format!(
                "allowed are {}, `*`, lists such as `1,2`, ranges such as `1-5`, and steps such as `*/2`",
                self.allowed
            ),
        })
    }

    /// croner takes names anywhere.
    fn has_only_known_words(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let mut words = text.split(|c: char| !c.is_ascii_lowercase());
        words.all(|word| {
            let short = word.strip_suffix('l').unwrap_or(word);
            let named = |word: &str| word.is_empty() || self.words.contains(&word);
            let signed = word.chars().all(|c| self.signs.contains(c));
            named(word) || signed || self.signs.contains('l') && named(short)
        })
    }
}

fn pattern(fields: &[&str]) -> Result<CronPattern, croner::errors::CronError> {
    // As Debian's crontab(5) has it, both have to match if one begins with `*`, with a step too. croner looks for a bare one.
    let starred = [3, 5].iter().any(|&at| fields[at].starts_with(['*', '?']));
    let parser = CronParser::builder().year(Year::Disallowed);
    let parser = parser.seconds(croner::parser::Seconds::Required);
    let parser = parser.dom_and_dow(starred).build();
    Ok(parser.parse(&fields.join(" "))?.pattern)
}

/// The lowest bit that is set, from this one on.
fn first_bit(bits: u64, from: u32) -> Option<u32> {
    let bits = bits.checked_shr(from).unwrap_or(0);
    (bits != 0).then(|| from + bits.trailing_zeros())
}

const WEEK: [Weekday; 7] = [
    Weekday::Sunday,
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
];

/// The days from 1970-01-01 to this date of the Gregorian calendar, by Howard Hinnant's `days_from_civil`.
fn days_before(year: i64, month: i64, day: i64) -> Day {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of the month, by Howard Hinnant's `civil_from_days`.
fn date_of(day: Day) -> (i64, u32, u32) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_are_each_others_inverse() {
        for day in -200_000..200_000 {
            let (year, month, of_month) = date_of(day);
            assert_eq!(
                days_before(year, i64::from(month), i64::from(of_month)),
                day
            );
        }
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(date_of(19_782), (2024, 2, 29));
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        for (text, says) in [
            ("60 * * * *", "the minute can't be `60`"),
            ("* 24 * * *", "the hour can't be `24`"),
            ("* * 32 * *", "the day of the month can't be `32`"),
            ("* * * 13 *", "the month can't be `13`"),
            ("* * * * 8", "the weekday can't be `8`"),
            ("61 * * * * *", "the second can't be `61`"),
            ("mon * * * *", "the minute can't be `mon`"),
            ("* * * mon *", "the month can't be `mon`"),
            ("* * * * jan", "the weekday can't be `jan`"),
            ("* * * * monday", "the weekday can't be `monday`"),
            ("5-1 * * * *", "the minute can't be `5-1`"),
            ("*/0 * * * *", "the minute can't be `*/0`"),
            ("0/10 * * * *", "the minute can't be `0/10`"),
            ("x * * * *", "the minute can't be `x`"),
            ("* * * *", "has 4 fields"),
            ("", "has 0 fields"),
            ("0 0 0 1 1 * 2030", "has 7 fields"),
            ("0 0 30 2 *", "never comes"),
            ("0 0 31 4,6,9,11 *", "never comes"),
            ("@often", "isn't the name of an expression"),
        ] {
            let fault = Expression::parse(text).expect_err(text);
            assert!(fault.what.contains(says), "{text}: {fault}");
            assert!(!fault.help.is_empty());
        }
    }

    #[test]
    fn what_cron_knows_is_read() {
        for text in [
            "0 3 * * mon-fri",
            "*/5 * * * *",
            "0 0 L * *",
            "0 0 15W * *",
            "0 0 LW * *",
            "0 0 * * fri#2",
            "0 0 * * friL",
            "0 0 * * 5L",
            "0 0 * JAN-MAR,dec Sun,7",
            "0 0 29 2 *",
            "10 0 0 1 * *",
            "@hourly",
            "@DAILY",
            "@midnight",
            "@weekly",
            "@monthly",
            "@yearly",
            "@annually",
            "0 0 30 2 mon",
        ] {
            Expression::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        }
    }

    #[test]
    fn day_of_the_month_and_weekday_combine_as_cron_has_it() {
        // June 2026 begins on a Monday.
        let june = days_before(2026, 6, 1);
        for (text, expected) in [
            ("0 3 5 * mon", &[1, 5, 8, 15, 22, 29][..]),
            ("0 3 */2 * mon", &[1, 15, 29]),
            ("0 3 13 * */2", &[13]),
            ("0 3 16 * */2", &[16]),
            ("0 3 15 * */2", &[]),
            ("0 3 */10 * */2", &[11, 21]),
            (
                "0 3 1-31/2 * mon",
                &[1, 3, 5, 7, 8, 9, 11, 13, 15, 17, 19, 21, 22, 23, 25, 27, 29],
            ),
            ("0 3 * * mon", &[1, 8, 15, 22, 29]),
            ("0 3 ? * mon", &[1, 8, 15, 22, 29]),
            ("0 3 5 * ?", &[5]),
            ("0 3 5 * +mon", &[]),
        ] {
            let expression = Expression::parse(text).unwrap();
            let on: Vec<Day> = (1..=30)
                .filter(|day| expression.is_on(june + day - 1))
                .collect();
            assert_eq!(on, expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_is_kept_of_some_days_only() {
        for text in ["* * * * *", "@hourly", "30 */2 3 * * *"] {
            assert!(Expression::parse(text).unwrap().days.is_none(), "{text}");
        }
        for text in ["@monthly", "0 0 * jan *", "0 0 * * mon"] {
            assert!(Expression::parse(text).unwrap().days.is_some(), "{text}");
        }
        assert!(size_of::<Expression>() <= 40);
    }

    #[test]
    fn the_first_match_is_that_of_a_search_second_by_second() {
        for text in [
            "0 */7 1-3 * * *",
            "0 30 5 13 * fri",
            "5,40 59 23 L * *",
            "*/20 * 2 29 2 *",
        ] {
            let expression = Expression::parse(text).unwrap();
            let fields: Vec<&str> = text.split_whitespace().collect();
            let pattern = pattern(&fields).unwrap();
            let mut at = 951_700_000; // 2000-02-28
            let until = at + 3 * DAY;
            while at < until {
                let slow = (at..until).find(|&at| {
                    let (day, second) = (at.div_euclid(DAY), at.rem_euclid(DAY));
                    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
                    let (year, month, of_month) = date_of(day);
                    let weekday = WEEK[(day + 4).rem_euclid(7) as usize];
                    let on = |day| pattern.day_match(year as i32, month, day, weekday);
                    pattern.second_match(second as u32).unwrap()
                        && pattern.minute_match(minute as u32).unwrap()
                        && pattern.hour_match(hour as u32).unwrap()
                        && pattern.month_match(month).unwrap()
                        && on(of_month).unwrap()
                });
                assert_eq!(expression.first_within(at, until), slow, "{text} from {at}");
                at = slow.map_or(until, |slow| slow + 1);
            }
        }
    }
}
