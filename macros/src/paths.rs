//! Where the expansion finds the library: `::aioxide`, or what `crate = path` says.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{Expr, Path};

use crate::errors::Errors;
use crate::options::{Options, compact};

/// The path to the aioxide crate.
pub(crate) struct CratePath(Option<Path>);

impl CratePath {
    /// Reads the option `crate = path`.
    pub(crate) fn from_options(options: &Options, errors: &mut Errors) -> CratePath {
        let Some((_, value)) = options.value("crate") else {
            return CratePath(None);
        };
        match value {
            Expr::Path(path) if path.qself.is_none() => CratePath(Some(path.path.clone())),
            other => {
                errors.push(
                    other,
                    format!(
                        "`crate` takes the path of the aioxide crate, not `{}`",
                        compact(other)
                    ),
                    "write for example `crate = ::my_reexports::aioxide`",
                );
                CratePath(None)
            }
        }
    }
}

impl CratePath {
    /// The path as if it stood at `span`: what rustc says about a call then points there.
    pub(crate) fn at(&self, span: Span) -> TokenStream {
        match &self.0 {
            Some(path) => path.to_token_stream(),
            None => quote_spanned!(span=> ::aioxide),
        }
    }
}

impl ToTokens for CratePath {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.at(Span::call_site()));
    }
}
