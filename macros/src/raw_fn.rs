//! The annotated function: its signature parsed, its body kept as the tokens that were typed, so that
//! a body that doesn't parse yet (`x.`) still reaches rustc and rust-analyzer unharmed.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
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
            match braces(input.parse()?) {
                Ok(body) => Some(body),
                Err(other) => {
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

/// Lets an expansion use an argument whose name says that it isn't used.
pub(crate) fn allow_underscore(name: &Ident) -> Option<TokenStream> {
    let name = name.to_string();
    let is_linted = name.starts_with('_') && !name.starts_with("__");
    is_linted.then(|| quote!(#[allow(clippy::used_underscore_binding)]))
}

/// The group in braces that `token` is, perhaps inside of the invisible group of a `$body:block`.
fn braces(token: TokenTree) -> Result<Group, TokenTree> {
    let TokenTree::Group(group) = &token else {
        return Err(token);
    };
    match group.delimiter() {
        Delimiter::Brace => Ok(group.clone()),
        Delimiter::None => {
            let mut content = group.stream().into_iter();
            match (content.next(), content.next()) {
                (Some(only), None) => braces(only),
                _ => Err(token),
            }
        }
        _ => Err(token),
    }
}

/// What an item is that isn't a function, and the word that says so. `None` for a function that can't be read.
pub(crate) fn other_item(item: &TokenStream) -> Option<(&'static str, TokenStream)> {
    use syn::Item;
    let (what, keyword) = match syn::parse2::<Item>(item.clone()).ok()? {
        Item::Struct(item) => ("a struct", item.struct_token.to_token_stream()),
        Item::Enum(item) => ("an enum", item.enum_token.to_token_stream()),
        Item::Union(item) => ("a union", item.union_token.to_token_stream()),
        Item::Impl(item) => ("an `impl` block", item.impl_token.to_token_stream()),
        Item::Trait(item) => ("a trait", item.trait_token.to_token_stream()),
        Item::Mod(item) => ("a module", item.mod_token.to_token_stream()),
        Item::Const(item) => ("a constant", item.const_token.to_token_stream()),
        Item::Static(item) => ("a static", item.static_token.to_token_stream()),
        Item::Type(item) => ("a type alias", item.type_token.to_token_stream()),
        Item::Use(item) => ("an import", item.use_token.to_token_stream()),
        Item::Fn(_) => return None,
        other => ("another item", other.to_token_stream()),
    };
    Some((what, keyword))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tokens;

    #[test]
    fn a_body_is_in_braces_that_macros_may_have_wrapped() {
        let body = |text: &str| {
            syn::parse2::<RawFn>(tokens(text)).map(|raw| raw.body_tokens().to_string())
        };
        assert_eq!(body("fn f() { x. }").expect("a body"), "x .");
        assert_eq!(body("fn f() fragment!({ x })").expect("a body"), "x");
        assert_eq!(
            body("fn f() fragment!(fragment!({ x }))").expect("a body"),
            "x"
        );
        assert_eq!(body("fn f();").expect("none"), "");
        for other in [
            "fn f() (x)",
            "fn f() [x]",
            "fn f() x",
            "fn f() fragment!({ x } y)",
            "fn f() fragment!()",
            "fn f()",
        ] {
            assert!(body(other).is_err(), "{other}");
        }
    }

    #[test]
    fn only_one_underscore_is_linted() {
        let allow = |name: &str| {
            allow_underscore(&Ident::new(name, Span::call_site())).map(|tokens| tokens.to_string())
        };
        assert_eq!(
            allow("_peers").as_deref(),
            Some("# [allow (clippy :: used_underscore_binding)]")
        );
        assert_eq!(allow("peers"), None);
        assert_eq!(allow("__peers"), None);
    }

    #[test]
    fn another_item_is_called_by_its_name() {
        for (item, what, word) in [
            ("pub struct A;", "a struct", "struct"),
            ("enum A {}", "an enum", "enum"),
            ("union A { b: u8 }", "a union", "union"),
            ("impl A {}", "an `impl` block", "impl"),
            ("trait A {}", "a trait", "trait"),
            ("mod a {}", "a module", "mod"),
            ("const A: u8 = 1;", "a constant", "const"),
            ("static A: u8 = 1;", "a static", "static"),
            ("type A = B;", "a type alias", "type"),
            ("use a::b;", "an import", "use"),
            ("a! {}", "another item", "a ! { }"),
        ] {
            let (called, keyword) = other_item(&tokens(item)).expect(item);
            assert_eq!((called, keyword.to_string().as_str()), (what, word));
        }
        for none in ["fn f() {}", "struct", "", "fn f() x"] {
            assert!(other_item(&tokens(none)).is_none(), "{none}");
        }
    }
}
