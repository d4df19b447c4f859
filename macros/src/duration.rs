//! Lengths of time: the literals `100ms`, `1.5s`, `1h30m`, `"1h 30m"`, or any expression of type `Duration`.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::visit::Visit;
use syn::{Expr, ExprLit, Lit};

use crate::errors::Errors;

const FORMS: &str =
    "write for example `100ms`, `1.5s`, `1h30m`, `\"1h 30m\"` or an expression of type `Duration`";

/// The units, longest first: a literal names them in this order.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A length of time as an option gives it.
pub(crate) enum Length {
    /// Known now, at least one millisecond.
    Literal(Duration),
    /// Known at run time.
    Expr(Expr),
}

impl Length {
    /// What an expansion uses in place of a length that isn't legal or is missing.
    pub(crate) const STAND_IN: Length = Length::Literal(Duration::from_secs(1));

    /// Checks `expr`, the value of the option `name`. On an error a legal length comes back, so that
    /// the expansion can go on.
    pub(crate) fn check(name: &str, expr: &Expr, errors: &mut Errors) -> Length {
        let text = match ungroup(expr) {
            Expr::Lit(ExprLit {
                lit: Lit::Int(lit), ..
            }) => lit.to_string(),
            Expr::Lit(ExprLit {
                lit: Lit::Float(lit),
                ..
            }) => lit.to_string(),
            Expr::Lit(ExprLit {
                lit: Lit::Str(lit), ..
            }) => lit.value(),
            Expr::Lit(other) => {
                errors.push(
                    expr,
                    format!(
                        "`{name}` takes a length of time, not `{}`",
                        other.to_token_stream()
                    ),
                    FORMS,
                );
                return Length::STAND_IN;
            }
            other => {
                let mut suffixed = Suffixed {
                    name,
                    errors,
                    found: false,
                };
                suffixed.visit_expr(other);
                return if suffixed.found {
                    Length::STAND_IN
                } else {
                    Length::Expr(other.clone())
                };
            }
        };
        match parse(&text) {
            Ok(length) => Length::Literal(length),
            Err(Fault { what, help }) => {
                errors.push(expr, format!("`{name}`: {what}"), help);
                Length::STAND_IN
            }
        }
    }
}

impl ToTokens for Length {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Length::Literal(length) => {
                let (secs, nanos) = (length.as_secs(), length.subsec_nanos());
                tokens.extend(quote!(::core::time::Duration::new(#secs, #nanos)));
            }
            Length::Expr(expr) => expr.to_tokens(tokens),
        }
    }
}

/// Looks through the parentheses and the invisible groups that `macro_rules!` puts around a fragment.
fn ungroup(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::Group(group) => &group.expr,
            Expr::Paren(paren) => &paren.expr,
            other => return other,
        };
    }
}

/// Finds `100ms` inside a larger expression, where rustc would only say "invalid suffix".
struct Suffixed<'e> {
    name: &'e str,
    errors: &'e mut Errors,
    found: bool,
}

impl<'ast> Visit<'ast> for Suffixed<'_> {
    fn visit_expr_lit(&mut self, expr: &'ast ExprLit) {
        let suffix = match &expr.lit {
            Lit::Int(lit) => lit.suffix(),
            Lit::Float(lit) => lit.suffix(),
            _ => return,
        };
        if components(&format!("1{suffix}")).is_ok() {
            self.found = true;
            self.errors.push(
                expr,
                format!("`{}`: `{}` stands alone or not at all; it is no expression", self.name, expr.lit.to_token_stream()),
                "write the whole length as one literal, or build it with `Duration::from_millis(..)`",
            );
        }
    }
}

#[derive(Debug)]
struct Fault {
    what: String,
    help: String,
}

fn fault<T>(what: String) -> Result<T, Fault> {
    Err(Fault {
        what,
        help: FORMS.to_owned(),
    })
}

/// One number with its unit.
struct Component<'t> {
    whole: &'t str,
    fraction: &'t str,
    millis: u64,
}

fn components(text: &str) -> Result<Vec<Component<'_>>, Fault> {
    let mut parts: Vec<Component<'_>> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '_' && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| !c.is_alphabetic() && c != 'µ')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() || number.starts_with(['.', '_']) {
            return fault(format!("`{text}` is not a length of time"));
        }
        if unit.is_empty() && after.trim_start().starts_with(char::is_alphabetic) {
            let closed: String = text.split_whitespace().collect();
            return Err(Fault {
                what: format!("`{text}` has a space between a number and its unit"),
                help: format!("write `{closed}`"),
            });
        }
        if unit.is_empty() {
            return Err(Fault {
                what: format!(
                    "`{text}` has a number without a unit; the units are ms, s, m or min, h, d"
                ),
                help: format!(
                    "write for example `{}ms` or `{}s`",
                    text.trim(),
                    text.trim()
                ),
            });
        }
        let Some(&(_, millis)) = UNITS.iter().find(|(known, _)| *known == unit) else {
            return fault(format!(
                "unknown unit `{unit}` in `{text}`; the units are ms, s, m or min, h, d"
            ));
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') {
            return fault(format!("`{text}` is not a length of time"));
        }
        if parts.last().is_some_and(|last| last.millis <= millis) {
            return fault(format!(
                "the units in `{text}` are not in descending order, each once"
            ));
        }
        parts.push(Component {
            whole,
            fraction,
            millis,
        });
        rest = after.trim_start();
    }
    Ok(parts)
}

fn parse(text: &str) -> Result<Duration, Fault> {
    const NANOS_PER_MILLI: u128 = 1_000_000;
    let parts = components(text)?;
    if parts.is_empty() {
        return fault("an empty text is not a length of time".to_owned());
    }
    let too_long = || Fault {
        what: format!("`{text}` is longer than can be counted"),
        help: "the longest length is about 584 million years".to_owned(),
    };
    let mut nanos = 0u128;
    for part in &parts {
        if !part.fraction.is_empty() && parts.len() > 1 {
            return fault(format!(
                "`{text}` has a fraction beside a second unit; a fraction is allowed only with one unit",
            ));
        }
        let unit = u128::from(part.millis) * NANOS_PER_MILLI;
        let whole: u64 = part
            .whole
            .replace('_', "")
            .parse()
            .map_err(|_| too_long())?;
        nanos += u128::from(whole) * unit;

        let fraction = part.fraction.replace('_', "");
        let digits = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
        if digits > 18 {
            return fault(format!(
                "`{text}` has more digits after the point than a nanosecond needs"
            ));
        }
        let tenths: u128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| too_long())?
        };
        nanos += tenths * unit / 10u128.pow(digits);
    }
    if nanos < NANOS_PER_MILLI {
        return Err(Fault {
            what: format!("`{text}` is shorter than a millisecond, the shortest length"),
            help: "write `1ms` or more".to_owned(),
        });
    }
    let secs = u64::try_from(nanos / 1_000_000_000).map_err(|_| too_long())?;
    // The remainder of a division by a billion fits.
    Ok(Duration::new(secs, (nanos % 1_000_000_000) as u32))
}

#[cfg(test)]
mod tests {
    use super::{Length, parse};
    use crate::errors::Errors;
    use crate::tests::tokens;
    use quote::ToTokens;
    use std::time::Duration;

    #[test]
    fn lengths_are_read_exactly() {
        for (text, millis) in [
            ("1ms", 1),
            ("100ms", 100),
            ("1_000ms", 1000),
            ("1.5s", 1500),
            ("5s", 5000),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            (" 1d 2h 3min 4s 5ms ", 93_784_005),
            ("0.5d", 43_200_000),
        ] {
            assert_eq!(
                parse(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        assert_eq!(
            parse("1.000001s").unwrap(),
            Duration::from_micros(1_000_001)
        );
    }

    #[test]
    fn what_is_no_length_is_named() {
        for (text, says) in [
            ("", "empty"),
            ("100", "without a unit"),
            ("1.5", "without a unit"),
            ("10 ms", "space between a number and its unit"),
            ("1h 30 m", "space between a number and its unit"),
            ("0ms", "shorter than a millisecond"),
            ("0.5ms", "shorter than a millisecond"),
            ("10us", "unknown unit `us`"),
            ("1w", "unknown unit `w`"),
            ("30m1h", "descending"),
            ("1m1min", "descending"),
            ("1.5h30m", "fraction"),
            ("0x10ms", "unknown unit `x`"),
            ("ms", "not a length"),
            ("99999999999999999999s", "longer"),
            ("999999999999999999d", "longer"),
        ] {
            let fault = parse(text).expect_err(text);
            assert!(fault.what.contains(says), "{text}: {}", fault.what);
            assert!(!fault.help.is_empty());
        }
        assert_eq!(parse("10 ms").unwrap_err().help, "write `10ms`");
        assert_eq!(parse("1h 30 m").unwrap_err().help, "write `1h30m`");
    }

    #[test]
    fn digits_after_the_point_end_at_eighteen() {
        let digits = |count: usize| format!("1.{}s", "5".repeat(count));
        let length = parse(&digits(18)).unwrap();
        assert_eq!(length, Duration::new(1, 555_555_555));
        let fault = parse(&digits(19)).unwrap_err();
        assert!(fault.what.contains("more digits"), "{}", fault.what);
    }

    /// What an option of this value expands to, and how many mistakes are in it.
    fn option(value: &str) -> (String, usize) {
        let mut errors = Errors::default();
        let expr = syn::parse2(tokens(value)).expect("an expression");
        let length = Length::check("after", &expr, &mut errors);
        (length.to_token_stream().to_string(), errors.len())
    }

    #[test]
    fn a_literal_stands_alone_in_any_wrapping() {
        let expected = ":: core :: time :: Duration :: new (1u64 , 500000000u32)";
        for value in [
            "1.5s",
            "1500ms",
            "\"1s 500ms\"",
            "(1.5s)",
            "fragment!(1.5s)",
        ] {
            assert_eq!(option(value), (expected.to_owned(), 0), "{value}");
        }
        for value in ["true", "'s'", "b\"1s\"", "15", "1.5"] {
            assert_eq!(option(value).1, 1, "{value}");
        }
    }

    #[test]
    fn an_expression_has_no_length_in_it() {
        for value in [
            "period",
            "2 * period",
            "2u64 * period",
            "1.5f64 * x",
            "secs(5)",
            "f(\"1s\")",
        ] {
            let tokens = tokens(value).to_string();
            assert_eq!(option(value), (tokens, 0), "{value}");
        }
        for (value, mistakes) in [
            ("100ms * 2", 1),
            ("2 * 1.5s", 1),
            ("f(1h30m)", 1),
            ("1s + 5ms", 2),
        ] {
            assert_eq!(option(value).1, mistakes, "{value}");
        }
    }
}
