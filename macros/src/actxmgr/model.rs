//! What is legal: the function and the options checked against each other.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{FnArg, Lifetime, ReceiverKind, ReturnType, Safety, Type, TypeReference};

use super::args::{Args, Timeout};
use super::yield_point::{Search, YieldPoint, search};
use crate::errors::Errors;
use crate::neighbours;
use crate::options::compact;
use crate::paths::CratePath;
use crate::raw_fn::RawFn;

pub(super) struct Model {
    pub(super) krate: CratePath,
    pub(super) declared: Declared,
    pub(super) borrowed: bool,
    pub(super) finish_setup: bool,
    pub(super) setup_timeout: Timeout,
    pub(super) teardown_timeout: Timeout,
    pub(super) body: Body,
}

/// The declared return type.
pub(super) enum Declared {
    /// A `Result`, or an `Always` that was written out.
    AsIs(Type),
    /// Any other type, which never fails.
    Wrapped(Type),
    /// None.
    Unit,
}

/// What becomes of the function's body.
pub(super) enum Body {
    /// A trait method without one.
    None,
    /// It becomes the frame.
    Frame(Option<YieldPoint>),
    /// It is left out, because a mistake in it has been reported that would cause more errors.
    Dropped,
}

impl Model {
    /// Reports what is wrong, and gives what to expand to nevertheless.
    pub(super) fn check(mut args: Args, function: &mut RawFn, errors: &mut Errors) -> Model {
        let around = wrapped_by_another(function, errors);
        if around.is_none() {
            check_qualifiers(function, errors);
        }
        let (declared, opaque) = declared(function, errors);

        let borrows = around.is_none() && borrows(function, args.borrowed.as_ref(), errors);
        if args.borrowed.is_some() || borrows {
            if let (Some(finish), Some(_)) = (args.finish_setup.take(), &args.borrowed) {
                errors.push(
                    finish,
                    "`finish_setup` and `borrowed` don't go together: what is borrowed ends with the caller, \
                     and a setup that is finished detached would outlive it",
                    "remove one of the two; arguments that are owned need no `borrowed`",
                );
            }
        }
        for timeout in [&mut args.setup_timeout, &mut args.teardown_timeout] {
            if let (Some((key, _)), true) = (&timeout, declared.is_infallible()) {
                errors.push(
                    key,
                    format!(
                        "`{key}` needs a context that can fail, and `{}` declares no `Result`",
                        function.name()
                    ),
                    "return a `Result<T, E>` with `E: From<aioxide::Elapsed>`",
                );
                *timeout = None;
            }
        }

        let body = match (&function.body, around) {
            (None, _) => Body::None,
            (Some(_), Some(())) => Body::Dropped,
            (Some(body), None) => match search(&function.sig.ident, body, errors) {
                _ if opaque => Body::Dropped,
                Search::Found(point) => Body::Frame(Some(point)),
                Search::Unreadable => Body::Frame(None),
                Search::Wrong => Body::Dropped,
            },
        };
        Model {
            krate: args.krate,
            declared,
            borrowed: args.borrowed.is_some() || borrows,
            finish_setup: args.finish_setup.is_some(),
            setup_timeout: args.setup_timeout,
            teardown_timeout: args.teardown_timeout,
            body,
        }
    }
}

/// Some attributes rewrite async functions in a way that leaves nothing to yield from.
fn wrapped_by_another(function: &mut RawFn, errors: &mut Errors) -> Option<()> {
    const INSTRUMENT: &str = "`#[tracing::instrument]` and `#[actxmgr]` don't mix: the function it would trace only builds the context";
    const INSTRUMENT_HELP: &str = "remove `#[instrument]` and open a span in the body; the teardown keeps the span that is current at enter";
    const RUNTIME_HELP: &str =
        "put it on another function, which enters this context: `main`, or a test";

    let name = function.name().to_string();
    if let Some(attribute) = neighbours::rewritten_by(function) {
        let help = match attribute {
            "#[async_trait]" => {
                "remove `#[async_trait]`: a trait with `#[actxmgr]` methods is object safe without it"
            }
            _ => RUNTIME_HELP,
        };
        errors.push(
            &function.sig.ident,
            format!(
                "`{attribute}` and `#[actxmgr]` don't mix: `{name}` has already been rewritten and can't yield any more"
            ),
            help,
        );
        if let "#[async_trait]" = attribute {
            let output = neighbours::boxed_output(&function.sig.output);
            function.sig.output = output.unwrap_or(ReturnType::Default);
        }
        return Some(());
    }
    if let Some(attr) = neighbours::take_runtime_attribute(function) {
        errors.push(
            attr,
            format!(
                "`#[tokio::main]` and `#[actxmgr]` don't mix: `{name}` becomes a function that returns a context"
            ),
            RUNTIME_HELP,
        );
    }
    if let Some(attr) = neighbours::take_instrument(function) {
        errors.push(attr, INSTRUMENT, INSTRUMENT_HELP);
        return None;
    }
    if neighbours::is_instrumented(function.body_tokens()) {
        errors.push(&function.sig.ident, INSTRUMENT, INSTRUMENT_HELP);
        return Some(());
    }
    None
}

/// Reports what no context can be, and takes it away.
fn check_qualifiers(function: &mut RawFn, errors: &mut Errors) {
    let sig = &mut function.sig;
    let name = sig.ident.to_string();
    if sig.asyncness.is_none() && sig.constness.is_none() {
        errors.push(
            sig.fn_token,
            format!("`#[actxmgr]` needs an `async fn`, and `{name}` is not async"),
            format!("write `async fn {name}`"),
        );
    }
    let mut reject = |tokens: &dyn ToTokens, what: &str| {
        errors.push(
            tokens.to_token_stream(),
            format!("a context's function cannot be `{what}`"),
            format!("write `async fn {name}` without `{what}`"),
        );
    };
    if let Some(token) = sig.constness.take() {
        reject(&token, "const");
    }
    if let Safety::Unsafe(token) = std::mem::take(&mut sig.safety) {
        reject(&token, "unsafe");
    }
    if let Some(abi) = sig.abi.take() {
        reject(&abi, "extern");
    }
    if let Some(variadic) = sig.variadic.take() {
        errors.push(
            variadic.dots,
            format!("a context's function cannot be variadic, and `{name}` takes `...`"),
            "name every argument, or take a `Vec`",
        );
    }
}

impl Declared {
    fn of(ty: &Type) -> Declared {
        match last_segment(ty) {
            Some(name) if name == "Always" || name.to_string().ends_with("Result") => {
                Declared::AsIs(ty.clone())
            }
            _ => Declared::Wrapped(ty.clone()),
        }
    }

    fn is_infallible(&self) -> bool {
        match self {
            Declared::AsIs(ty) => last_segment(ty).is_some_and(|name| name == "Always"),
            Declared::Wrapped(_) | Declared::Unit => true,
        }
    }

    /// As if it stood at `at`.
    pub(super) fn to_tokens(&self, krate: &CratePath, at: Span) -> TokenStream {
        let krate = krate.at(at);
        match self {
            Declared::AsIs(ty) => ty.to_token_stream(),
            Declared::Wrapped(ty) => quote_spanned!(at=> #krate::Always<#ty>),
            Declared::Unit => quote_spanned!(at=> #krate::Always<()>),
        }
    }

    /// The type, or the function's name when there is none.
    pub(super) fn span(&self, function: &RawFn) -> Span {
        match self {
            Declared::AsIs(ty) | Declared::Wrapped(ty) => ty.span(),
            Declared::Unit => function.name().span(),
        }
    }

    pub(super) fn ty_mut(&mut self) -> Option<&mut Type> {
        match self {
            Declared::AsIs(ty) | Declared::Wrapped(ty) => Some(ty),
            Declared::Unit => None,
        }
    }
}

fn last_segment(mut ty: &Type) -> Option<&Ident> {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            Type::Path(path) => return path.path.segments.last().map(|last| &last.ident),
            _ => return None,
        };
    }
}

/// The declared type, and whether an opaque type in it was reported and replaced.
fn declared(function: &RawFn, errors: &mut Errors) -> (Declared, bool) {
    let ReturnType::Type(_, ty) = &function.sig.output else {
        return (Declared::Unit, false);
    };
    let mut ty = Type::clone(ty);
    let mut opaque = Opaque {
        errors,
        found: false,
    };
    syn::visit_mut::VisitMut::visit_type_mut(&mut opaque, &mut ty);
    (Declared::of(&ty), opaque.found)
}

/// Replaces `impl Trait` by a type that can be used in its stead.
struct Opaque<'e> {
    errors: &'e mut Errors,
    found: bool,
}

impl syn::visit_mut::VisitMut for Opaque<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        let Type::ImplTrait(opaque) = ty else {
            return syn::visit_mut::visit_type_mut(self, ty);
        };
        self.found = true;
        let bounds = &opaque.bounds;
        let boxed = quote!(dyn #bounds);
        self.errors.push(
            &opaque,
            format!(
                "a context cannot declare `{}`: its type is written more than once in what `#[actxmgr]` makes of it",
                compact(&opaque)
            ),
            format!("write the concrete type, or `Box<{}>`", compact(&boxed)),
        );
        let first = opaque.bounds.first();
        *ty = syn::parse_quote!(::std::boxed::Box<dyn #first + ::core::marker::Send>);
    }
}

/// Reports arguments that visibly borrow although `borrowed` is missing; gives whether there are any.
fn borrows(function: &RawFn, allowed: Option<&Ident>, errors: &mut Errors) -> bool {
    if allowed.is_some() {
        return false;
    }
    let mut any = false;
    for arg in &function.sig.inputs {
        let (tokens, owned) = match arg {
            FnArg::Receiver(receiver) => match &receiver.kind {
                ReceiverKind::Reference(and, lifetime, mutability) => {
                    let self_token = &receiver.self_token;
                    (
                        Some(quote!(#and #lifetime #mutability #self_token)),
                        "take `self` or `self: Arc<Self>`",
                    )
                }
                ReceiverKind::Typed(_, ty) => {
                    (borrowed_part(ty), "take `self` or `self: Arc<Self>`")
                }
                _ => (None, ""),
            },
            FnArg::Typed(typed) => (
                borrowed_part(&typed.ty),
                "take the argument by value, a `String` or an `Arc` for example",
            ),
        };
        let Some(tokens) = tokens else { continue };
        any = true;
        errors.push(
            &tokens,
            format!(
                "`{}` borrows, and a dropped guard's teardown may outlive what is borrowed",
                compact(&tokens)
            ),
            format!(
                "{owned}; or write `#[actxmgr(borrowed)]`, where a dropped guard can only poll its teardown once"
            ),
        );
    }
    any
}

/// The first thing in `ty` that visibly borrows for less than `'static`.
fn borrowed_part(ty: &Type) -> Option<TokenStream> {
    struct Borrowed(Option<TokenStream>);
    impl<'ast> Visit<'ast> for Borrowed {
        fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
            if reference.lifetime.is_none() {
                self.0.get_or_insert_with(|| reference.to_token_stream());
            }
            visit::visit_type_reference(self, reference);
        }

        fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
            if lifetime.ident != "static" {
                self.0.get_or_insert_with(|| lifetime.to_token_stream());
            }
        }

        // What `fn(&T)` and `Fn(&T)` borrow they borrow from whoever calls them.
        fn visit_type_fn_ptr(&mut self, _: &'ast syn::TypeFnPtr) {}
        fn visit_parenthesized_generic_arguments(
            &mut self,
            _: &'ast syn::ParenthesizedGenericArguments,
        ) {
        }
        fn visit_bound_lifetimes(&mut self, _: &'ast syn::BoundLifetimes) {}
        fn visit_trait_bound(&mut self, bound: &'ast syn::TraitBound) {
            if bound.lifetimes.is_none() {
                visit::visit_trait_bound(self, bound);
            }
        }
    }
    let mut found = Borrowed(None);
    found.visit_type(ty);
    found.0
}
