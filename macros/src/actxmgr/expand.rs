//! From model to tokens. Total: whatever was checked can be written.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::visit_mut::{self, VisitMut};
use syn::{FnArg, Lifetime, Pat, ReceiverKind, Signature, Type, TypeReference};

use super::model::{Body, Model};
use crate::raw_fn::{RawFn, allow_underscore};

/// ```ignore
/// // Input:
/// async fn connection(url: String) -> io::Result<Connection> { BODY }
///
/// // Output:
/// fn connection(url: String) -> ::aioxide::Context<io::Result<Connection>> {
///     ::aioxide::__private::context::<io::Result<Connection>, _>("connection", move |__aioxide_yielder| async move {
///         let url = url;
///         let yield_ = |value| __aioxide_yielder.give(value);
///         if let ::core::option::Option::Some(out) = ::aioxide::__private::no_end::<io::Result<Connection>>() { return out; }
///         let __aioxide_end: ::aioxide::__private::End<io::Result<Connection>> = { BODY };
///         __aioxide_end
///     })
/// }
/// ```
pub(super) fn expand(function: &RawFn, mut model: Model) -> TokenStream {
    let mut sig = function.sig.clone();
    sig.asyncness = None;
    let frame = model
        .borrowed
        .then(|| name_lifetimes(&mut sig, model.declared.ty_mut()));

    let krate = &model.krate;
    // What is wrong with the declared type is said there.
    let at = Span::mixed_site().located_at(model.declared.span(function));
    let declared = model.declared.to_tokens(krate, at);
    let context = match &frame {
        None => quote!(#krate::Context<#declared>),
        Some(frame) => quote!(#krate::BorrowedContext<#frame, #declared>),
    };
    sig.output = syn::parse_quote!(-> #context);

    let RawFn { attrs, vis, .. } = function;
    let body = match &model.body {
        Body::None => return quote!(#(#attrs)* #vis #sig;),
        Body::Dropped => {
            strip_patterns(&mut sig);
            quote!({ ::core::panic!("this function does not compile") })
        }
        Body::Frame(point) => {
            let rebound = rebind(&mut sig);
            let name = function
                .name()
                .to_string()
                .trim_start_matches("r#")
                .to_owned();
            let here = krate.at(at);
            let constructor = if model.borrowed {
                quote_spanned!(at=> #here::__private::borrowed_context::<#declared, _>)
            } else {
                quote_spanned!(at=> #here::__private::context::<#declared, _>)
            };
            let yielder = mixed("__aioxide_yielder");
            let end = mixed("__aioxide_end");
            let body = &function.body;
            let bound = point.as_ref().map(|point| {
                let ident = &point.ident;
                // What is wrong with the value is said at the user's own `yield_`.
                let at = Span::mixed_site().located_at(ident.span());
                if point.valueless {
                    let give = quote_spanned!(at=> #yielder.give_nothing());
                    quote!(let #ident = move || #give;)
                } else {
                    let value = Ident::new("__aioxide_value", at);
                    let give = quote_spanned!(at=> move |#value| #yielder.give(#value));
                    quote!(let #ident = #give;)
                }
            });
            let options = options(&model);
            // The block's type is that of what it must end in: errors about it belong to the body's end.
            let typed =
                quote_spanned!(function.close_span().resolved_at(Span::mixed_site())=> #end);
            quote!({
                #constructor(#name, move |#yielder| async move {
                    #rebound
                    #bound
                    if let ::core::option::Option::Some(#end) = #krate::__private::no_end::<#declared>() {
                        return #end;
                    }
                    let #typed: #krate::__private::End<#declared> = #body;
                    #[allow(unreachable_code)]
                    #typed
                })
                #options
            })
        }
    };
    // The bounds that borrowing adds stand apart from the user's own.
    let allow = frame
        .is_some()
        .then(|| quote!(#[allow(clippy::multiple_bound_locations)]));
    quote!(#(#attrs)* #allow #vis #sig #body)
}

fn mixed(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn options(model: &Model) -> TokenStream {
    let mut options = TokenStream::new();
    if let Some((key, length)) = &model.setup_timeout {
        options.extend(quote!(.#key(#length)));
    }
    if let Some((key, length)) = &model.teardown_timeout {
        options.extend(quote!(.#key(#length)));
    }
    if model.finish_setup {
        options.extend(quote!(.finish_setup()));
    }
    options
}

/// Leaves plain names in the signature, and gives the statements that bind, one after the other, what was
/// there: then they are dropped in the order in which an async fn drops its arguments.
fn rebind(sig: &mut Signature) -> TokenStream {
    let mut bindings = TokenStream::new();
    for (index, arg) in sig.inputs.iter_mut().enumerate() {
        match arg {
            FnArg::Receiver(receiver) => {
                // Captured even if it isn't used, to live as long as the other arguments.
                let this = &receiver.self_token;
                bindings.extend(quote!(let _ = &#this;));
            }
            FnArg::Typed(typed) => {
                let attrs = &typed.attrs;
                let pat = &typed.pat;
                let binding = match &**pat {
                    Pat::Ident(plain) if plain.by_ref.is_none() && plain.subpat.is_none() => {
                        let ident = &plain.ident;
                        let allow = allow_underscore(ident);
                        let binding = quote!(#(#attrs)* #allow let #pat = #ident;);
                        *typed.pat = syn::parse_quote!(#ident);
                        binding
                    }
                    _ => {
                        let whole =
                            format_ident!("__aioxide_arg{index}", span = Span::mixed_site());
                        let binding =
                            quote!(#(#attrs)* let #whole = #whole; #(#attrs)* let #pat = #whole;);
                        *typed.pat = syn::parse_quote!(#whole);
                        binding
                    }
                };
                bindings.extend(binding);
            }
        }
    }
    bindings
}

/// For a body that is left out: nothing is used, nothing needs to be mutable.
fn strip_patterns(sig: &mut Signature) {
    for arg in &mut sig.inputs {
        match arg {
            FnArg::Typed(typed) => *typed.pat = syn::parse_quote!(_),
            FnArg::Receiver(receiver) => {
                if let ReceiverKind::Value = receiver.kind {
                    receiver.mutability = None;
                }
            }
        }
    }
}

/// Names every lifetime that the arguments leave out, and lets all of them, and all type parameters, outlive
/// the context's own, which it gives.
fn name_lifetimes(sig: &mut Signature, declared: Option<&mut Type>) -> Lifetime {
    let frame = Lifetime::new("'__aioxide", Span::mixed_site());
    let mut namer = Namer {
        frame: &frame,
        named: Vec::new(),
        used: Vec::new(),
    };
    let mut of_self = None;
    for arg in &mut sig.inputs {
        match arg {
            FnArg::Receiver(receiver) => {
                match &mut receiver.kind {
                    ReceiverKind::Reference(_, lifetime, _) => namer.name(lifetime),
                    ReceiverKind::Typed(_, ty) => namer.visit_type_mut(ty),
                    _ => {}
                }
                of_self = namer.used.first().cloned();
            }
            FnArg::Typed(typed) => namer.visit_type_mut(&mut typed.ty),
        }
    }
    let Namer {
        named, mut used, ..
    } = namer;

    // The rule of elision: that of `self`, else the only one there is.
    let only = match used.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    };
    if let (Some(ty), Some(elided)) = (declared, of_self.or(only)) {
        Elided(&elided).visit_type_mut(ty);
    }

    let by_value = sig
        .receiver()
        .is_some_and(|receiver| !matches!(receiver.kind, ReceiverKind::Reference(..)));
    used.extend(sig.generics.lifetimes().map(|param| param.lifetime.clone()));
    used.sort();
    used.dedup();
    let types: Vec<Ident> = sig
        .generics
        .type_params()
        .map(|param| param.ident.clone())
        .collect();
    for (at, lifetime) in std::iter::once(&frame).chain(&named).enumerate() {
        sig.generics.params.insert(at, syn::parse_quote!(#lifetime));
    }
    let clause = sig.generics.make_where_clause();
    for lifetime in used {
        clause.predicates.push(syn::parse_quote!(#lifetime: #frame));
    }
    for ty in types {
        clause.predicates.push(syn::parse_quote!(#ty: #frame));
    }
    if by_value {
        clause.predicates.push(syn::parse_quote!(Self: #frame));
    }
    if clause.predicates.is_empty() {
        sig.generics.where_clause = None;
    }
    frame
}

struct Namer<'f> {
    frame: &'f Lifetime,
    /// New names.
    named: Vec<Lifetime>,
    /// All lifetimes in the arguments, `'static` apart.
    used: Vec<Lifetime>,
}

impl Namer<'_> {
    fn name(&mut self, lifetime: &mut Option<Lifetime>) {
        match lifetime {
            Some(lifetime) => self.visit_lifetime_mut(lifetime),
            None => *lifetime = Some(self.new_name()),
        }
    }

    fn new_name(&mut self) -> Lifetime {
        let name = format!("'__aioxide_{}", self.named.len());
        let lifetime = Lifetime::new(&name, Span::mixed_site());
        self.named.push(lifetime.clone());
        self.used.push(lifetime.clone());
        lifetime
    }
}

impl VisitMut for Namer<'_> {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        self.name(&mut reference.lifetime);
        self.visit_type_mut(&mut reference.elem);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "_" {
            *lifetime = self.new_name();
        } else if lifetime.ident != "static" {
            self.used.push(lifetime.clone());
        }
    }

    fn visit_type_impl_trait_mut(&mut self, opaque: &mut syn::TypeImplTrait) {
        visit_mut::visit_type_impl_trait_mut(self, opaque);
        let frame = self.frame;
        opaque.bounds.push(syn::parse_quote!(#frame));
    }

    // What `fn(&T)` and `Fn(&T)` borrow they borrow from whoever calls them.
    fn visit_type_fn_ptr_mut(&mut self, _: &mut syn::TypeFnPtr) {}
    fn visit_parenthesized_generic_arguments_mut(
        &mut self,
        _: &mut syn::ParenthesizedGenericArguments,
    ) {
    }
    fn visit_trait_bound_mut(&mut self, bound: &mut syn::TraitBound) {
        if bound.lifetimes.is_none() {
            visit_mut::visit_trait_bound_mut(self, bound);
        }
    }
}

struct Elided<'l>(&'l Lifetime);

impl VisitMut for Elided<'_> {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        reference.lifetime.get_or_insert_with(|| self.0.clone());
        visit_mut::visit_type_reference_mut(self, reference);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "_" {
            *lifetime = self.0.clone();
        }
    }

    fn visit_type_fn_ptr_mut(&mut self, _: &mut syn::TypeFnPtr) {}
    fn visit_parenthesized_generic_arguments_mut(
        &mut self,
        _: &mut syn::ParenthesizedGenericArguments,
    ) {
    }
}
