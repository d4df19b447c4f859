//! What is typed in the parentheses of `#[actxmgr(..)]`.

use proc_macro2::TokenStream;
use syn::Ident;

use crate::duration::Length;
use crate::errors::Errors;
use crate::options::{Known, Options};
use crate::paths::CratePath;

const KNOWN: [Known; 5] = [
    Known::flag("borrowed"),
    Known::flag("finish_setup"),
    Known::value("setup_timeout", "5s"),
    Known::value("teardown_timeout", "10s"),
    Known::value("crate", "path"),
];

/// The option's name as it was typed, and its value.
pub(super) type Timeout = Option<(Ident, Length)>;

pub(super) struct Args {
    pub(super) borrowed: Option<Ident>,
    pub(super) finish_setup: Option<Ident>,
    pub(super) setup_timeout: Timeout,
    pub(super) teardown_timeout: Timeout,
    pub(super) krate: CratePath,
}

impl Args {
    /// What is wrong is reported and left out.
    pub(super) fn parse(tokens: TokenStream, errors: &mut Errors) -> Args {
        let options = Options::parse("actxmgr", tokens, false, &KNOWN, errors);
        let mut timeout = |key| {
            let (typed, value) = options.value(key)?;
            Some((typed.clone(), Length::check(key, value, errors)))
        };
        let setup_timeout = timeout("setup_timeout");
        let teardown_timeout = timeout("teardown_timeout");
        Args {
            borrowed: options.flag("borrowed").cloned(),
            finish_setup: options.flag("finish_setup").cloned(),
            setup_timeout,
            teardown_timeout,
            krate: CratePath::from_options(&options, errors),
        }
    }
}
