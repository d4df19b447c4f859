//! What was typed between the parentheses.

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::Expr;

use crate::errors::Errors;
use crate::options::{Known, Options};

pub(super) const KNOWN: [Known; 17] = [
    Known::value("after", "1s"),
    Known::value("cron", "\"0 3 * * *\""),
    Known::value("zone", "\"Asia/Seoul\""),
    Known::value("first", "interval"),
    Known::value("overlap", "skip"),
    Known::value("missed", "coalesce"),
    Known::value("jitter", "10ms"),
    Known::value("spread", "host"),
    Known::value("phase", "random"),
    Known::value("timeout", "5s"),
    Known::value("grace", "1s"),
    Known::either("single", "lease"),
    Known::value("ttl", "15s"),
    Known::value("delivery", "at_most_once"),
    Known::value("on_error", "report"),
    Known::value("name", "\"heartbeat\""),
    Known::value("crate", "::aioxide"),
];

pub(super) struct Args {
    pub(super) interval: Option<Expr>,
    pub(super) options: Options,
    /// Something could not be read, which may have been the interval.
    pub(super) faulty: bool,
}

impl Args {
    pub(super) fn parse(tokens: TokenStream, errors: &mut Errors) -> Args {
        let before = errors.len();
        let tokens = without_name(tokens, errors);
        let mut options = Options::parse("timer", tokens, true, &KNOWN, errors);
        Args {
            interval: options.positional(),
            faulty: errors.len() > before,
            options,
        }
    }
}

/// Takes the name off `interval = 100ms`, which nothing else would say so plainly.
fn without_name(tokens: TokenStream, errors: &mut Errors) -> TokenStream {
    let mut rest = tokens.clone().into_iter();
    match (rest.next(), rest.next()) {
        (Some(TokenTree::Ident(name)), Some(TokenTree::Punct(equals)))
            if name == "interval"
                && equals.as_char() == '='
                && equals.spacing() == Spacing::Alone =>
        {
            errors.push(
                &name,
                "the interval stands first and has no name",
                "write for example `#[timer(100ms)]`",
            );
            rest.collect()
        }
        _ => tokens,
    }
}
