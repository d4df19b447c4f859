//! What is legal.

use proc_macro2::{Ident, Span, TokenStream};
use quote::ToTokens;
use syn::{Expr, ExprLit, Lit, LitStr, Pat, PatType, Path};

use super::args::{Args, KNOWN};
use super::function::{Param, check_fn};
use super::policy::{MISSED, OVERLAP, Policy, check_policy};
use crate::duration::Length;
use crate::errors::Errors;
use crate::options::{Options, as_word, compact};
use crate::paths::CratePath;
use crate::raw_fn::RawFn;

/// A timer that can be written down.
pub(super) struct Model<'f> {
    pub(super) krate: CratePath,
    pub(super) cadence: Cadence,
    pub(super) first: Option<First>,
    pub(super) overlap: Option<Policy>,
    pub(super) missed: Option<Policy>,
    pub(super) jitter: Option<Length>,
    pub(super) spread: bool,
    pub(super) phase: bool,
    pub(super) timeout: Option<Length>,
    pub(super) grace: Option<Length>,
    pub(super) single: Option<Single>,
    pub(super) ttl: Option<Length>,
    /// A variant of `Delivery`.
    pub(super) delivery: Option<Ident>,
    pub(super) on_error: Option<Path>,
    pub(super) name: Expr,
    pub(super) tick: Option<&'f PatType>,
    pub(super) params: Vec<Param<'f>>,
}

pub(super) enum Cadence {
    Every(Length),
    After(Length),
    /// Expression and zone.
    Calendar(LitStr, LitStr),
}

/// Of whom one runs.
pub(super) enum Single {
    Workers,
    /// Those who go by this lease.
    Cluster(Expr),
}

pub(super) enum First {
    Interval,
    At(Length),
}

impl<'f> Model<'f> {
    /// The timer that `args` and `raw` describe, with a default in place of each wrong option. `None` if
    /// the function can't be a timer's.
    pub(super) fn check(args: Args, raw: &'f RawFn, errors: &mut Errors) -> Option<Model<'f>> {
        let Args {
            interval,
            options,
            faulty,
        } = args;
        let length = |name: &str, errors: &mut Errors| {
            let (_, value) = options.value(name)?;
            Some(Length::check(name, value, errors))
        };

        let krate = CratePath::from_options(&options, errors);
        let cadence = check_cadence(interval, &options, faulty, raw, errors);
        let first = check_first(&options, errors);
        let overlap = check_policy(&OVERLAP, &options, errors);
        let missed = check_policy(&MISSED, &options, errors);
        if let (Cadence::After(_), Some((key, _))) = (&cadence, options.value("missed")) {
            errors.push(
                key,
                "`missed` says nothing with `after`: a fixed delay has no due times to miss",
                "remove `missed`, or give an interval instead of `after`",
            );
        }
        if let Cadence::Calendar(..) = cadence {
            for (option, help) in [
                (
                    "first",
                    "remove `first`: the expression says when the first tick is due",
                ),
                (
                    "phase",
                    "write `jitter = 10m` to shift the starts, with `spread = host` by the same on each host",
                ),
            ] {
                if let Some((key, _)) = options.value(option) {
                    errors.push(
                        key,
                        format!("`{option}` says nothing with `cron`: the calendar has no start"),
                        help,
                    );
                }
            }
        }
        let jitter = check_jitter(&cadence, &options, errors);
        let spread = check_spread(&options, errors);
        let phase = check_phase(&options, errors);
        let timeout = length("timeout", errors);
        let grace = length("grace", errors);
        let single = check_single(&cadence, &options, errors);
        let ttl = length("ttl", errors);
        let delivery = check_delivery(&options, errors);
        let on_error = check_on_error(&options, errors);
        let name = check_name(&options, raw, errors);

        let (tick, params) = check_fn(raw, errors)?;
        Some(Model {
            krate,
            cadence,
            first,
            overlap,
            missed,
            jitter,
            spread,
            phase,
            timeout,
            grace,
            single,
            ttl,
            delivery,
            on_error,
            name,
            tick,
            params,
        })
    }

    /// Some option is an expression, which may use the arguments.
    pub(super) fn has_expressions(&self) -> bool {
        let length = match &self.cadence {
            Cadence::Every(length) | Cadence::After(length) => Some(length),
            Cadence::Calendar(..) => None,
        };
        let first = match &self.first {
            Some(First::At(length)) => Some(length),
            _ => None,
        };
        let lengths = [
            length,
            first,
            self.jitter.as_ref(),
            self.timeout.as_ref(),
            self.grace.as_ref(),
            self.ttl.as_ref(),
        ];
        let policies = [&self.overlap, &self.missed];
        lengths
            .into_iter()
            .flatten()
            .any(|length| matches!(length, Length::Expr(_)))
            || policies
                .into_iter()
                .flatten()
                .any(|policy| policy.bound.is_some())
            || matches!(self.single, Some(Single::Cluster(_)))
            || !matches!(self.name, Expr::Lit(_))
    }
}

fn check_cadence(
    interval: Option<Expr>,
    options: &Options,
    faulty: bool,
    raw: &RawFn,
    errors: &mut Errors,
) -> Cadence {
    const HELP: &str = "write for example `#[timer(100ms)]`, or `#[timer(after = 1s)]` for a fixed delay between ticks";
    if options.meant("cron") {
        return check_calendar(interval, options, errors);
    }
    if let Some((key, _)) = options.value("zone") {
        errors.push(
            key,
            "`zone` is that of a calendar, and there is no `cron`",
            "write for example `cron = \"0 3 * * *\"`, or remove `zone`",
        );
    }
    match (interval, options.value("after")) {
        (Some(interval), Some((key, _))) => {
            errors.push(
                key,
                "`after` takes the place of the interval, and both are given",
                format!(
                    "remove `after`, or remove the interval `{}`",
                    compact(&interval)
                ),
            );
            Cadence::Every(Length::check("interval", &interval, &mut Errors::default()))
        }
        (Some(interval), None) => {
            if let Some(key) = option_without_value(&interval, raw) {
                errors.push(
                    &interval,
                    format!(
                        "`{key}` needs a value, and the interval, which stands first, is missing"
                    ),
                    HELP,
                );
                return Cadence::Every(Length::STAND_IN);
            }
            Cadence::Every(Length::check("interval", &interval, errors))
        }
        (None, Some((_, delay))) => Cadence::After(Length::check("after", delay, errors)),
        (None, None) => {
            if !faulty {
                errors.push(TokenStream::new(), "`#[timer]` needs an interval", HELP);
            }
            Cadence::Every(Length::STAND_IN)
        }
    }
}

/// `cron`, and `zone`.
fn check_calendar(interval: Option<Expr>, options: &Options, errors: &mut Errors) -> Cadence {
    for (key, text) in [
        (
            "the interval",
            interval.as_ref().map(ToTokens::to_token_stream),
        ),
        (
            "`after`",
            options.value("after").map(|(key, _)| key.to_token_stream()),
        ),
    ] {
        if let Some(tokens) = text {
            errors.push(
                tokens,
                format!("`cron` takes the place of {key}, and both are given"),
                format!("remove {key}, or remove `cron`"),
            );
        }
    }
    let default = |text: &str| LitStr::new(text, Span::mixed_site());
    let text = |name: &str, example: &str, errors: &mut Errors| match options.value(name)?.1 {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Some(text.clone()),
        other => {
            errors.push(
                other,
                format!("`{name}` takes a text that is known when the program is compiled, not `{}`", compact(other)),
                format!("write for example `{name} = {example}`; `Timer::calendar(..)` takes what is known at run time"),
            );
            None
        }
    };
    let cron = text("cron", "\"0 3 * * mon-fri\"", errors);
    let zone = text("zone", "\"Asia/Seoul\"", errors);
    #[cfg(feature = "calendar")]
    check_texts(cron.as_ref(), zone.as_ref(), errors);
    #[cfg(not(feature = "calendar"))]
    refuse_calendar(options, errors);
    Cadence::Calendar(
        cron.unwrap_or_else(|| default("* * * * *")),
        zone.unwrap_or_else(|| default("UTC")),
    )
}

#[cfg(feature = "calendar")]
fn check_texts(cron: Option<&LitStr>, zone: Option<&LitStr>, errors: &mut Errors) {
    use super::calendar::{Wrong, check_expression, check_zone};
    type Check = fn(&str) -> Result<(), Wrong>;
    let checks: [(&str, Option<&LitStr>, Check); 2] =
        [("cron", cron, check_expression), ("zone", zone, check_zone)];
    for (name, text, check) in checks {
        if let Some((text, Err((what, help)))) = text.map(|text| (text, check(&text.value()))) {
            errors.push(text, format!("`{name}`: {what}"), help);
        }
    }
}

#[cfg(not(feature = "calendar"))]
fn refuse_calendar(options: &Options, errors: &mut Errors) {
    errors.push(
        options.flag("cron"),
        "`cron` needs the feature `calendar` of aioxide",
        "write `aioxide = { version = \"..\", features = [\"calendar\"] }` in Cargo.toml",
    );
}

/// `#[timer(jitter)]`: the name of an option, and of no argument that could be the interval.
fn option_without_value(interval: &Expr, raw: &RawFn) -> Option<&'static str> {
    let word = as_word(interval)?.to_string();
    let is_argument = raw
        .typed_args()
        .any(|arg| matches!(&*arg.pat, Pat::Ident(pat) if pat.ident == word));
    let known = KNOWN.iter().find(|known| known.key == word)?;
    (!is_argument).then_some(known.key)
}

fn check_first(options: &Options, errors: &mut Errors) -> Option<First> {
    let (_, value) = options.value("first")?;
    match as_word(value) {
        Some(word) if word == "now" => None,
        Some(word) if word == "interval" => Some(First::Interval),
        _ => Some(First::At(Length::check("first", value, errors))),
    }
}

fn check_jitter(cadence: &Cadence, options: &Options, errors: &mut Errors) -> Option<Length> {
    let (_, value) = options.value("jitter")?;
    let jitter = Length::check("jitter", value, errors);
    let interval = match cadence {
        Cadence::Every(interval) | Cadence::After(interval) => interval,
        Cadence::Calendar(..) => return Some(jitter),
    };
    if let (Length::Literal(shift), Length::Literal(interval)) = (&jitter, interval) {
        if shift >= interval {
            errors.push(
                value,
                format!("`jitter` must be less than the interval, but {shift:?} isn't less than {interval:?}"),
                "write a shorter `jitter`, or spread the timers with `phase = random`",
            );
            return None;
        }
    }
    Some(jitter)
}

fn check_spread(options: &Options, errors: &mut Errors) -> bool {
    let Some((key, value)) = options.value("spread") else {
        return false;
    };
    if as_word(value).is_none_or(|word| word != "host") {
        errors.push(
            value,
            format!("`spread` can only be `host`, not `{}`", compact(value)),
            "write `spread = host`, or leave it out for a random part of the jitter at each start",
        );
        return false;
    }
    if !options.meant("jitter") {
        errors.push(
            key,
            "`spread` is a part of the jitter, and there is no `jitter`",
            "write for example `jitter = 10m, spread = host`",
        );
        return false;
    }
    true
}

fn check_phase(options: &Options, errors: &mut Errors) -> bool {
    let Some((_, value)) = options.value("phase") else {
        return false;
    };
    let random = as_word(value).is_some_and(|word| word == "random");
    if !random {
        errors.push(
            value,
            format!("`phase` can only be `random`, not `{}`", compact(value)),
            "write `phase = random`, or `first = 50ms` for a shift that is known",
        );
    }
    random
}

fn check_single(cadence: &Cadence, options: &Options, errors: &mut Errors) -> Option<Single> {
    let key = options.flag("single");
    let lease = options.value("single").map(|(_, lease)| lease.clone());
    // A `single` that was refused has had its error.
    let refused = key.is_none() && options.meant("single");
    if let (Some((ttl, _)), None, false) = (options.value("ttl"), &lease, refused) {
        errors.push(
            ttl,
            "`ttl` is that of a lease, and there is none",
            "write `single = lease` for a lease among the arguments, or remove `ttl`",
        );
    }
    if let (Some((delivery, _)), None, false) = (options.value("delivery"), key, refused) {
        errors.push(
            delivery,
            "`delivery` says what counts when another goes on, which needs `single`",
            "add `single`, or `single = lease`, or remove `delivery`",
        );
    }
    let key = key?;
    if let Cadence::After(_) = cadence {
        errors.push(
            key,
            "`single` needs due times that all share, which `after` doesn't have",
            "give an interval or `cron` instead of `after`",
        );
        return None;
    }
    for option in ["first", "phase"] {
        if let Some((key, _)) = options.value(option) {
            errors.push(
                key,
                format!("`{option}` says nothing with `single`: all share one grid"),
                format!("remove `{option}`; `jitter` shifts the starts"),
            );
        }
    }
    Some(lease.map_or(Single::Workers, Single::Cluster))
}

fn check_delivery(options: &Options, errors: &mut Errors) -> Option<Ident> {
    let (_, value) = options.value("delivery")?;
    let variant = match as_word(value) {
        Some(word) if word == "at_least_once" => "AtLeastOnce",
        Some(word) if word == "at_most_once" => "AtMostOnce",
        _ => {
            errors.push(
                value,
                format!("`delivery` can't be `{}`", compact(value)),
                "write `at_least_once` or `at_most_once`",
            );
            return None;
        }
    };
    Some(Ident::new(variant, Span::mixed_site()))
}

fn check_on_error(options: &Options, errors: &mut Errors) -> Option<Path> {
    let (_, value) = options.value("on_error")?;
    match value {
        Expr::Path(path) if path.qself.is_none() => Some(path.path.clone()),
        other => {
            errors.push(
                other,
                format!(
                    "`on_error` takes the path of a function, not `{}`",
                    compact(other)
                ),
                "write `on_error = report` for a `fn report(tick: &Tick, error: &TickError)`; the builder's `.on_error(..)` takes a closure",
            );
            None
        }
    }
}

fn check_name(options: &Options, raw: &RawFn, errors: &mut Errors) -> Expr {
    let own = || {
        let name = syn::ext::IdentExt::unraw(raw.name()).to_string();
        let lit = Lit::Str(syn::LitStr::new(&name, Span::mixed_site()));
        Expr::Lit(ExprLit {
            attrs: Vec::new(),
            lit,
        })
    };
    match options.value("name") {
        None => own(),
        Some((_, Expr::Lit(ExprLit { lit, .. }))) if !matches!(lit, Lit::Str(_)) => {
            errors.push(
                lit,
                format!("`name` takes a text, not `{}`", compact(lit)),
                format!("write for example `name = \"{}\"`", raw.name()),
            );
            own()
        }
        Some((_, name)) => name.clone(),
    }
}
