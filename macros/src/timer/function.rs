//! The function: a leading `Tick`, and the arguments that each tick gets a clone of.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::visit::Visit;
use syn::{Attribute, Lifetime, Pat, PatType, Receiver, ReceiverKind, ReturnType, Safety, Type};

use crate::errors::Errors;
use crate::neighbours;
use crate::options::compact;
use crate::raw_fn::RawFn;

/// An argument of the function that starts the timer.
pub(super) struct Param<'f> {
    pub(super) attrs: &'f [Attribute],
    /// Its name outside the tick.
    pub(super) name: Ident,
    pub(super) pat: &'f Pat,
    pub(super) ty: &'f Type,
}

impl Param<'_> {
    /// Its pattern is more than a name.
    pub(super) fn destructures(&self) -> bool {
        !matches!(self.pat, Pat::Ident(pat) if pat.ident == self.name)
    }
}

/// The item isn't a function, or one that can't be read.
pub(super) fn refuse_item(item: &TokenStream, unread: syn::Error, errors: &mut Errors) {
    match syn::parse2::<syn::Item>(item.clone()) {
        Ok(syn::Item::Fn(_)) | Err(_) => errors.push_syntax(unread),
        Ok(other) => errors.push(
            other,
            "`#[timer]` goes on an async function, not on another item",
            "write for example `async fn heartbeat() { .. }`",
        ),
    }
}

pub(super) fn check_fn<'f>(
    raw: &'f RawFn,
    errors: &mut Errors,
) -> Option<(Option<&'f PatType>, Vec<Param<'f>>)> {
    let before = errors.len();
    let name = raw.name();
    let sig = &raw.sig;
    if let Some(attribute) = neighbours::rewritten_by(raw) {
        let help = match attribute {
            "#[async_trait]" => {
                "remove `#[async_trait]`: a function that starts a timer is not async, and a trait with it is object safe"
            }
            _ => "put it on another function, which starts this timer: `main`, or a test",
        };
        errors.push(
            name,
            format!(
                "`{attribute}` and `#[timer]` don't mix: `{name}` has already been rewritten and is not async any more"
            ),
            help,
        );
    } else if sig.asyncness.is_none() {
        errors.push(
            sig.fn_token,
            format!("`{name}` is not async; `#[timer]` goes on an async function"),
            format!("write `async fn {name}`"),
        );
    }
    let qualifiers: [(&str, Option<TokenStream>); 3] = [
        (
            "const",
            sig.constness.as_ref().map(ToTokens::to_token_stream),
        ),
        (
            "unsafe",
            matches!(sig.safety, Safety::Unsafe(_)).then(|| sig.safety.to_token_stream()),
        ),
        ("extern", sig.abi.as_ref().map(ToTokens::to_token_stream)),
    ];
    for (qualifier, tokens) in qualifiers {
        if let Some(tokens) = tokens {
            errors.push(
                tokens,
                format!("`#[timer]` goes on a plain async function, not on `{qualifier} fn`"),
                format!("remove `{qualifier}`"),
            );
        }
    }
    if let Some(variadic) = &sig.variadic {
        errors.push(
            variadic,
            "a timer's function takes a fixed number of arguments, not `...`",
            "remove the `...`",
        );
    }
    if raw.body.is_none() {
        errors.push(
            name,
            format!("`{name}` has no body for the ticks to run"),
            format!(
                "give it a body, or declare it as it is called, `fn {name}(..) -> aioxide::Timer;`"
            ),
        );
    }
    if let Some(borrowed) = sig.receiver().filter(|receiver| is_borrowed(receiver)) {
        errors.push(
            borrowed,
            format!(
                "`{}` is borrowed, but a timer outlives the call that starts it",
                compact(borrowed)
            ),
            "take `self: Arc<Self>`, or `self` by value if it can be cloned",
        );
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        check_return(ty, errors);
    }

    let mut tick = None;
    let mut params = Vec::new();
    for (i, arg) in raw.typed_args().enumerate() {
        if is_tick(&arg.ty) && tick.is_none() {
            if i == 0 {
                tick = Some(arg);
                continue;
            }
            errors.push(
                &arg.ty,
                "the `Tick` stands first among the arguments, and is the timer's to give",
                format!("write `async fn {name}({}, ..)`", compact(arg)),
            );
        }
        check_owned(arg, errors);
        params.push(Param {
            attrs: &arg.attrs,
            name: match &*arg.pat {
                Pat::Ident(pat) if pat.subpat.is_none() && pat.by_ref.is_none() => {
                    pat.ident.clone()
                }
                _ => format_ident!("__aioxide_arg{i}", span = Span::mixed_site()),
            },
            pat: &arg.pat,
            ty: &arg.ty,
        });
    }
    (errors.len() == before).then_some((tick, params))
}

/// The return type isn't written out, so that no closure can declare it.
pub(super) fn returns_impl(raw: &RawFn) -> bool {
    matches!(&raw.sig.output, ReturnType::Type(_, ty) if find_impl(ty).is_some())
}

fn check_return(ty: &Type, errors: &mut Errors) {
    if let Some(hidden) = find_impl(ty) {
        errors.push(
            hidden,
            "a tick returns `()` or `Result<(), E>`, not an `impl Trait`",
            "write the type out, for example `Result<(), std::io::Error>`",
        );
    }
}

fn find_impl(ty: &Type) -> Option<&syn::TypeImplTrait> {
    let mut found = FindImpl(None);
    found.visit_type(ty);
    found.0
}

struct FindImpl<'t>(Option<&'t syn::TypeImplTrait>);

impl<'t> Visit<'t> for FindImpl<'t> {
    fn visit_type_impl_trait(&mut self, ty: &'t syn::TypeImplTrait) {
        self.0.get_or_insert(ty);
    }
}

fn check_owned(arg: &PatType, errors: &mut Errors) {
    let mut borrow = FindBorrow(None);
    borrow.visit_type(&arg.ty);
    let Some(borrow) = borrow.0 else { return };
    let name = compact(&arg.pat);
    let help = match ungroup(&arg.ty) {
        Type::Reference(reference) if is_tick(&reference.elem) => {
            format!("take it by value, and first: `{name}: Tick`")
        }
        Type::Reference(reference) => {
            let owned = compact(&reference.elem);
            let owned = if owned == "str" {
                "String".to_owned()
            } else {
                format!("Arc<{owned}>")
            };
            format!(
                "take something owned that each tick can have a clone of, such as `{name}: {owned}`"
            )
        }
        _ => "take something owned that each tick can have a clone of, such as an `Arc`".to_owned(),
    };
    errors.push(
        borrow,
        format!("`{name}` is borrowed, but a timer outlives the call that starts it"),
        help,
    );
}

fn is_borrowed(receiver: &Receiver) -> bool {
    match &receiver.kind {
        ReceiverKind::Reference(..) => true,
        ReceiverKind::Typed(_, ty) => {
            let mut borrow = FindBorrow(None);
            borrow.visit_type(ty);
            borrow.0.is_some()
        }
        _ => false,
    }
}

/// The first visible borrow in a type that isn't for ever.
struct FindBorrow(Option<TokenStream>);

impl<'t> Visit<'t> for FindBorrow {
    fn visit_type_reference(&mut self, ty: &'t syn::TypeReference) {
        match &ty.lifetime {
            Some(lifetime) if lifetime.ident == "static" => self.visit_type(&ty.elem),
            _ => {
                self.0.get_or_insert(quote!(#ty));
            }
        }
    }

    // `fn(&T)` and `Fn(&T)` borrow nothing until they are called.
    fn visit_type_fn_ptr(&mut self, _: &'t syn::TypeFnPtr) {}
    fn visit_parenthesized_generic_arguments(&mut self, _: &'t syn::ParenthesizedGenericArguments) {
    }
    fn visit_trait_bound(&mut self, bound: &'t syn::TraitBound) {
        if bound.lifetimes.is_none() {
            syn::visit::visit_trait_bound(self, bound);
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'t Lifetime) {
        if lifetime.ident != "static" {
            self.0.get_or_insert(quote!(#lifetime));
        }
    }
}

/// What the caller of the function that was meant wouldn't give.
pub(super) fn is_tick_or_borrowed(ty: &Type) -> bool {
    match ungroup(ty) {
        Type::Reference(reference) => is_tick(&reference.elem),
        ty => is_tick(ty),
    }
}

fn is_tick(ty: &Type) -> bool {
    match ungroup(ty) {
        Type::Path(path) if path.qself.is_none() => path
            .path
            .segments
            .last()
            .is_some_and(|last| last.ident == "Tick" && last.arguments.is_none()),
        _ => false,
    }
}

fn ungroup(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            other => return other,
        };
    }
}
