//! Other attributes that rewrite async functions, above ours or below.

use proc_macro2::TokenStream;
use syn::visit::{self, Visit};
use syn::{Attribute, ReturnType, Type};

use crate::raw_fn::RawFn;

/// Who has turned an `async fn` into a function that isn't async any more, before our attribute saw it.
pub(crate) fn rewritten_by(raw: &RawFn) -> Option<&'static str> {
    let sig = &raw.sig;
    if sig.asyncness.is_some() {
        return None;
    }
    let mut lifetimes = sig.generics.lifetimes();
    if lifetimes.any(|param| param.lifetime.ident == "async_trait")
        || boxed_output(&sig.output).is_some()
    {
        return Some("#[async_trait]");
    }
    // Of `#[tokio::main]` and `#[tokio::test]`: what they say when there is no runtime.
    let builds_runtime = raw
        .body_tokens()
        .to_string()
        .contains("Failed building the Runtime");
    builds_runtime.then_some("#[tokio::main]")
}

/// An attribute below ours that needs the function to stay async.
pub(crate) fn take_runtime_attribute(raw: &mut RawFn) -> Option<Attribute> {
    let at = raw.attrs.iter().position(|attr| {
        let path: Vec<String> = attr
            .path()
            .segments
            .iter()
            .map(|part| part.ident.to_string())
            .collect();
        matches!(
            path.iter().map(String::as_str).collect::<Vec<_>>()[..],
            ["tokio", "main" | "test"]
        )
    })?;
    Some(raw.attrs.remove(at))
}

pub(crate) fn take_instrument(raw: &mut RawFn) -> Option<Attribute> {
    let at = raw.attrs.iter().position(|attr| {
        let last = attr.path().segments.last();
        last.is_some_and(|last| last.ident == "instrument")
    })?;
    Some(raw.attrs.remove(at))
}

/// Whether `#[tracing::instrument]` has been at work on the body.
pub(crate) fn is_instrumented(body: TokenStream) -> bool {
    body.into_iter()
        .any(|token| token.to_string().starts_with("__tracing_"))
}

/// `R` in `Pin<Box<dyn Future<Output = R> + ..>>`.
pub(crate) fn boxed_output(output: &ReturnType) -> Option<ReturnType> {
    struct Output {
        pinned: bool,
        ty: Option<Type>,
    }
    impl<'ast> Visit<'ast> for Output {
        fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
            self.pinned |= segment.ident == "Pin";
            visit::visit_path_segment(self, segment);
        }

        fn visit_assoc_type(&mut self, assoc: &'ast syn::AssocType) {
            if self.pinned && assoc.ident == "Output" && self.ty.is_none() {
                self.ty = Some(assoc.ty.clone());
            }
        }
    }
    let mut found = Output {
        pinned: false,
        ty: None,
    };
    found.visit_return_type(output);
    let ty = found.ty?;
    Some(syn::parse_quote!(-> #ty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::compact;
    use crate::tests::tokens;
    use quote::ToTokens;

    fn function(text: &str) -> RawFn {
        syn::parse2(tokens(text)).expect("a function")
    }

    #[test]
    fn who_was_there_before_is_seen_by_what_is_left() {
        const ASYNC_TRAIT: Option<&str> = Some("#[async_trait]");
        const TOKIO_MAIN: Option<&str> = Some("#[tokio::main]");
        for (text, attribute) in [
            (
                "fn f<'a, 'async_trait>(&'a self) -> Boxed<'async_trait> {}",
                ASYNC_TRAIT,
            ),
            (
                "fn f() -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;",
                ASYNC_TRAIT,
            ),
            (
                "fn main() { Builder::build().expect(\"Failed building the Runtime\").block_on(body) }",
                TOKIO_MAIN,
            ),
            ("fn f<'a>(x: &'a str) -> &'a str { x }", None),
            (
                "async fn f<'async_trait>() -> Pin<Box<dyn Future<Output = ()>>> {}",
                None,
            ),
            (
                "async fn f() { panic!(\"Failed building the Runtime\") }",
                None,
            ),
        ] {
            assert_eq!(rewritten_by(&function(text)), attribute, "{text}");
        }
    }

    #[test]
    fn the_output_is_that_of_a_pinned_future() {
        for (text, output) in [
            (
                "-> Pin<Box<dyn Future<Output = io::Result<u8>> + Send + 'a>>",
                Some("-> io::Result<u8>"),
            ),
            (
                "-> core::pin::Pin<Box<dyn Future<Output = Pin<Box<dyn Future<Output = u8>>>>>>",
                Some("-> Pin<Box<dyn Future<Output = u8>>>"),
            ),
            (
                "-> Pin<Box<dyn Named<Key = u8, Output = u16>>>",
                Some("-> u16"),
            ),
            (
                "-> Pin<Box<dyn Future<Output = u8> + Add<Output = u16>>>",
                Some("-> u8"),
            ),
            ("-> Box<dyn Future<Output = u8>>", None),
            ("-> Pin<Box<dyn Stream<Item = u8>>>", None),
            ("-> io::Result<()>", None),
            ("", None),
        ] {
            let declared: ReturnType = syn::parse2(tokens(text)).expect("a return type");
            let found = boxed_output(&declared).map(compact);
            assert_eq!(found, output.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn an_attribute_below_is_taken_off_the_function() {
        let text = "#[doc = \"\"] #[tokio::test(flavor = \"multi_thread\")] #[tracing::instrument(skip(x))] async fn f() {}";
        let mut raw = function(text);
        let path =
            |attr: Option<Attribute>| attr.map(|attr| attr.path().to_token_stream().to_string());
        let left = |raw: &RawFn| {
            Vec::from_iter(
                raw.attrs
                    .iter()
                    .map(|attr| path(Some(attr.clone())).unwrap()),
            )
        };
        assert_eq!(
            path(take_runtime_attribute(&mut raw)).as_deref(),
            Some("tokio :: test")
        );
        assert_eq!(left(&raw), ["doc", "tracing :: instrument"]);
        assert_eq!(
            path(take_instrument(&mut raw)).as_deref(),
            Some("tracing :: instrument")
        );
        assert_eq!(left(&raw), ["doc"]);
        assert_eq!(path(take_runtime_attribute(&mut raw)), None);
        assert_eq!(path(take_instrument(&mut raw)), None);
        for other in [
            "#[main] async fn f() {}",
            "#[tokio::select] async fn f() {}",
            "#[instrument::other] fn f() {}",
        ] {
            let mut raw = function(other);
            assert!(take_runtime_attribute(&mut raw).is_none(), "{other}");
            assert!(take_instrument(&mut raw).is_none(), "{other}");
        }
    }

    #[test]
    fn a_traced_body_is_known_by_its_first_names() {
        assert!(is_instrumented(tokens(
            "let __tracing_attr_span; let __tracing_instrument_future = async move {};"
        )));
        assert!(!is_instrumented(tokens(
            "let span = tracing::span!(); f(__tracing_attr_span)"
        )));
    }
}
