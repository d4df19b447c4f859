//! The policies: `overlap`, `missed`.

use proc_macro2::{Ident, Span};
use syn::{Expr, ExprLit, Lit};

use crate::errors::{Errors, nearest};
use crate::options::{Options, as_word, compact};

/// A variant of `Overlap` or `Missed`, with its bound.
pub(super) struct Policy {
    pub(super) variant: Ident,
    pub(super) bound: Option<Expr>,
}

/// The policies of one option: what is typed, the variant, and whether it takes a bound.
pub(super) struct Policies {
    option: &'static str,
    words: &'static [(&'static str, &'static str, Bound)],
    forms: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    None,
    /// May be left out; the variant is then the associated constant of this name.
    Optional(&'static str),
    Needed,
}

pub(super) const OVERLAP: Policies = Policies {
    option: "overlap",
    words: &[
        ("skip", "Skip", Bound::None),
        ("allow", "Allow", Bound::Optional("ALLOW")),
        ("wait", "Wait", Bound::None),
        ("queue", "Queue", Bound::Needed),
        ("cancel", "Cancel", Bound::None),
    ],
    forms: "`skip`, `allow`, `allow(n)`, `wait`, `queue(n)` and `cancel`",
};

pub(super) const MISSED: Policies = Policies {
    option: "missed",
    words: &[
        ("coalesce", "Coalesce", Bound::None),
        ("skip", "Skip", Bound::None),
        ("burst", "Burst", Bound::Needed),
    ],
    forms: "`coalesce`, `skip` and `burst(n)`",
};

pub(super) fn check_policy(
    policies: &Policies,
    options: &Options,
    errors: &mut Errors,
) -> Option<Policy> {
    let Policies {
        option,
        words,
        forms,
    } = policies;
    let (_, value) = options.value(option)?;
    let (word, bounds) = match value {
        Expr::Call(call) => (as_word(&call.func), Some(call)),
        other => (as_word(other), None),
    };
    let Some(word) = word else {
        let quoted = match value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => {
                let text = text.value();
                let known = words.iter().any(|(known, ..)| *known == text);
                known.then(|| format!("write `{option} = {text}`, without quotes"))
            }
            _ => None,
        };
        errors.push(
            value,
            format!(
                "`{option}` takes the name of a policy, not `{}`",
                compact(value)
            ),
            quoted.unwrap_or_else(|| format!("the policies are {forms}")),
        );
        return None;
    };
    let typed = word.to_string();
    let Some((_, variant, bound)) = words.iter().find(|(known, ..)| *known == typed) else {
        let near = nearest(&typed, words.iter().map(|(known, ..)| *known));
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        errors.push(
            word,
            format!("unknown policy `{typed}` of `{option}`"),
            format!("{near}the policies are {forms}"),
        );
        return None;
    };

    let policy = |variant: &str, bound| Policy {
        variant: Ident::new(variant, Span::mixed_site().located_at(word.span())),
        bound,
    };
    let Some(call) = bounds else {
        return match bound {
            Bound::None => Some(policy(variant, None)),
            Bound::Optional(unbounded) => Some(policy(unbounded, None)),
            Bound::Needed => {
                errors.push(
                    word,
                    format!("`{typed}` needs a bound"),
                    format!("write for example `{option} = {typed}(8)`"),
                );
                None
            }
        };
    };
    if *bound == Bound::None {
        errors.push(
            value,
            format!("`{typed}` takes no bound"),
            format!("write `{option} = {typed}`"),
        );
        return None;
    }
    let mut bounds = call.args.iter();
    let (Some(n), None) = (bounds.next(), bounds.next()) else {
        errors.push(
            value,
            format!("`{typed}` takes one bound, not {}", call.args.len()),
            format!("write for example `{option} = {typed}(8)`"),
        );
        return None;
    };
    if let Expr::Lit(ExprLit { lit, .. }) = n {
        let legal = matches!(
            lit,
            Lit::Int(n) if matches!(n.suffix(), "" | "usize") && n.base10_parse::<usize>().is_ok_and(|n| n > 0)
        );
        if !legal {
            errors.push(
                lit,
                format!(
                    "the bound of `{typed}` is a whole number from 1, not `{}`",
                    compact(lit)
                ),
                format!("write for example `{option} = {typed}(8)`"),
            );
            return None;
        }
    }
    Some(policy(variant, Some(n.clone())))
}
