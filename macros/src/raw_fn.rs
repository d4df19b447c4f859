//! The annotated function: its signature parsed, its body kept as the tokens that were typed, so that
//! a body that doesn't parse yet (`x.`) still reaches rustc and rust-analyzer unharmed.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, FnArg, Ident, Signature, Token, Visibility};

pub(crate) struct RawFn {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// The braces and what is between them; `None` for a trait method without a body.
    pub(crate) body: Option<Group>,
}

impl Parse for RawFn {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let sig = input.parse()?;
        let body = if input.peek(Token![;]) {
            input.parse::<Token![;]>()?;
            None
        } else {
            match input.parse()? {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
                other => {
                    return Err(syn::Error::new_spanned(
                        other,
                        "expected the function's body",
                    ));
                }
            }
        };
        Ok(RawFn {
            attrs,
            vis,
            sig,
            body,
        })
    }
}

impl RawFn {
    pub(crate) fn name(&self) -> &Ident {
        &self.sig.ident
    }

    /// The tokens between the body's braces.
    pub(crate) fn body_tokens(&self) -> TokenStream {
        self.body.as_ref().map(Group::stream).unwrap_or_default()
    }

    /// The closing brace: where rustc points when a body ends in the wrong type.
    pub(crate) fn close_span(&self) -> Span {
        self.body
            .as_ref()
            .map_or_else(Span::call_site, Group::span_close)
    }

    pub(crate) fn typed_args(&self) -> impl Iterator<Item = &syn::PatType> {
        self.sig.inputs.iter().filter_map(|arg| match arg {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        })
    }
}

impl ToTokens for RawFn {
    /// The function exactly as it was typed.
    fn to_tokens(&self, tokens: &mut TokenStream) {
        for attr in &self.attrs {
            attr.to_tokens(tokens);
        }
        self.vis.to_tokens(tokens);
        self.sig.to_tokens(tokens);
        match &self.body {
            Some(body) => body.to_tokens(tokens),
            None => <Token![;]>::default().to_tokens(tokens),
        }
    }
}
