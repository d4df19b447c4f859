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
