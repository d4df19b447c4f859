//! What is legal.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::visit::Visit;
use syn::{
    Attribute, Expr, ExprLit, ExprPath, Lifetime, Lit, Pat, PatType, Receiver, ReceiverKind,
    ReturnType, Safety, Type,
};

use super::args::{Args, KNOWN};
use crate::duration::Length;
use crate::errors::{Errors, nearest};
use crate::neighbours;
use crate::options::{Options, compact};
use crate::paths::CratePath;
use crate::raw_fn::RawFn;

/// A timer that can be written down.
pub(super) struct Model<'f> {
    pub(super) krate: CratePath,
    pub(super) cadence: Cadence,
    pub(super) first: Option<First>,
    pub(super) overlap: Option<Policy>,
    pub(super) missed: Option<Policy>,
    pub(super) jitter: Option<Length>,
    pub(super) phase: bool,
    pub(super) timeout: Option<Length>,
    pub(super) grace: Option<Length>,
    pub(super) name: Expr,
    pub(super) tick: Option<&'f PatType>,
    pub(super) params: Vec<Param<'f>>,
}

pub(super) enum Cadence {
    Every(Length),
    After(Length),
}

pub(super) enum First {
    Interval,
    At(Length),
}

/// A variant of `Overlap` or `Missed`, with its bound.
pub(super) struct Policy {
    pub(super) variant: Ident,
    pub(super) bound: Option<Expr>,
}

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

impl<'f> Model<'f> {
    /// The timer that `args` and `raw` describe, with a default in place of each wrong option. `None` if
    /// the function can't be a timer's.
    pub(super) fn check(args: Args, raw: &'f RawFn, errors: &mut Errors) -> Option<Model<'f>> {
        let Args {
            interval,
            options,
            faulty,
        } = args;
        let length = |name: &str, errors: &mut Errors| {
            let (_, value) = options.value(name)?;
            Some(Length::check(name, value, errors))
        };

        let krate = CratePath::from_options(&options, errors);
        let cadence = check_cadence(interval, &options, faulty, raw, errors);
        let first = check_first(&options, errors);
        let overlap = check_policy(&OVERLAP, &options, errors);
        let missed = check_policy(&MISSED, &options, errors);
        if let (Cadence::After(_), Some((key, _))) = (&cadence, options.value("missed")) {
            errors.push(
                key,
                "`missed` says nothing with `after`: a fixed delay has no due times to miss",
                "remove `missed`, or give an interval instead of `after`",
            );
        }
        let jitter = check_jitter(&cadence, &options, errors);
        let phase = check_phase(&options, errors);
        let timeout = length("timeout", errors);
        let grace = length("grace", errors);
        let name = check_name(&options, raw, errors);

        let (tick, params) = check_fn(raw, errors)?;
        Some(Model {
            krate,
            cadence,
            first,
            overlap,
            missed,
            jitter,
            phase,
            timeout,
            grace,
            name,
            tick,
            params,
        })
    }

    /// Some option is an expression, which may use the arguments.
    pub(super) fn has_expressions(&self) -> bool {
        let (Cadence::Every(length) | Cadence::After(length)) = &self.cadence;
        let first = match &self.first {
            Some(First::At(length)) => Some(length),
            _ => None,
        };
        let lengths = [
            Some(length),
            first,
            self.jitter.as_ref(),
            self.timeout.as_ref(),
            self.grace.as_ref(),
        ];
        let policies = [&self.overlap, &self.missed];
        lengths
            .into_iter()
            .flatten()
            .any(|length| matches!(length, Length::Expr(_)))
            || policies
                .into_iter()
                .flatten()
                .any(|policy| policy.bound.is_some())
            || !matches!(self.name, Expr::Lit(_))
    }
}

fn check_cadence(
    interval: Option<Expr>,
    options: &Options,
    faulty: bool,
    raw: &RawFn,
    errors: &mut Errors,
) -> Cadence {
    const HELP: &str = "write for example `#[timer(100ms)]`, or `#[timer(after = 1s)]` for a fixed delay between ticks";
    match (interval, options.value("after")) {
        (Some(interval), Some((key, _))) => {
            errors.push(
                key,
                "`after` takes the place of the interval, and both are given",
                format!(
                    "remove `after`, or remove the interval `{}`",
                    compact(&interval)
                ),
            );
            Cadence::Every(Length::check("interval", &interval, &mut Errors::default()))
        }
        (Some(interval), None) => {
            if let Some(key) = option_without_value(&interval, raw) {
                errors.push(
                    &interval,
                    format!(
                        "`{key}` needs a value, and the interval, which stands first, is missing"
                    ),
                    HELP,
                );
                return Cadence::Every(Length::STAND_IN);
            }
            Cadence::Every(Length::check("interval", &interval, errors))
        }
        (None, Some((_, delay))) => Cadence::After(Length::check("after", delay, errors)),
        (None, None) => {
            if !faulty {
                errors.push(TokenStream::new(), "`#[timer]` needs an interval", HELP);
            }
            Cadence::Every(Length::STAND_IN)
        }
    }
}

/// `#[timer(jitter)]`: the name of an option, and of no argument that could be the interval.
fn option_without_value(interval: &Expr, raw: &RawFn) -> Option<&'static str> {
    let word = as_word(interval)?.to_string();
    let is_argument = raw
        .typed_args()
        .any(|arg| matches!(&*arg.pat, Pat::Ident(pat) if pat.ident == word));
    let known = KNOWN.iter().find(|known| known.key == word)?;
    (!is_argument).then_some(known.key)
}

fn check_first(options: &Options, errors: &mut Errors) -> Option<First> {
    let (_, value) = options.value("first")?;
    match as_word(value) {
        Some(word) if word == "now" => None,
        Some(word) if word == "interval" => Some(First::Interval),
        _ => Some(First::At(Length::check("first", value, errors))),
    }
}

fn check_jitter(cadence: &Cadence, options: &Options, errors: &mut Errors) -> Option<Length> {
    let (_, value) = options.value("jitter")?;
    let jitter = Length::check("jitter", value, errors);
    let (Cadence::Every(interval) | Cadence::After(interval)) = cadence;
    if let (Length::Literal(shift), Length::Literal(interval)) = (&jitter, interval) {
        if shift >= interval {
            errors.push(
                value,
                format!("`jitter` must be less than the interval, but {shift:?} isn't less than {interval:?}"),
                "write a shorter `jitter`, or spread the timers with `phase = random`",
            );
            return None;
        }
    }
    Some(jitter)
}

fn check_phase(options: &Options, errors: &mut Errors) -> bool {
    let Some((_, value)) = options.value("phase") else {
        return false;
    };
    let random = as_word(value).is_some_and(|word| word == "random");
    if !random {
        errors.push(
            value,
            format!("`phase` can only be `random`, not `{}`", compact(value)),
            "write `phase = random`, or `first = 50ms` for a shift that is known",
        );
    }
    random
}

fn check_name(options: &Options, raw: &RawFn, errors: &mut Errors) -> Expr {
    let own = || {
        let name = syn::ext::IdentExt::unraw(raw.name()).to_string();
        let lit = Lit::Str(syn::LitStr::new(&name, Span::mixed_site()));
        Expr::Lit(ExprLit {
            attrs: Vec::new(),
            lit,
        })
    };
    match options.value("name") {
        None => own(),
        Some((_, Expr::Lit(ExprLit { lit, .. }))) if !matches!(lit, Lit::Str(_)) => {
            errors.push(
                lit,
                format!("`name` takes a text, not `{}`", compact(lit)),
                format!("write for example `name = \"{}\"`", raw.name()),
            );
            own()
        }
        Some((_, name)) => name.clone(),
    }
}

/// The policies of one option: what is typed, the variant, and whether it takes a bound.
struct Policies {
    option: &'static str,
    words: &'static [(&'static str, &'static str, Bound)],
    forms: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    None,
    /// May be left out; the variant is then the associated constant of this name.
    Optional(&'static str),
    Needed,
}

const OVERLAP: Policies = Policies {
    option: "overlap",
    words: &[
        ("skip", "Skip", Bound::None),
        ("allow", "Allow", Bound::Optional("ALLOW")),
        ("wait", "Wait", Bound::None),
        ("queue", "Queue", Bound::Needed),
        ("cancel", "Cancel", Bound::None),
    ],
    forms: "`skip`, `allow`, `allow(n)`, `wait`, `queue(n)` and `cancel`",
};

const MISSED: Policies = Policies {
    option: "missed",
    words: &[
        ("coalesce", "Coalesce", Bound::None),
        ("skip", "Skip", Bound::None),
        ("burst", "Burst", Bound::Needed),
    ],
    forms: "`coalesce`, `skip` and `burst(n)`",
};

fn check_policy(policies: &Policies, options: &Options, errors: &mut Errors) -> Option<Policy> {
    let Policies {
        option,
        words,
        forms,
    } = policies;
    let (_, value) = options.value(option)?;
    let (word, bounds) = match value {
        Expr::Call(call) => (as_word(&call.func), Some(call)),
        other => (as_word(other), None),
    };
    let Some(word) = word else {
        let quoted = match value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => {
                let text = text.value();
                let known = words.iter().any(|(known, ..)| *known == text);
                known.then(|| format!("write `{option} = {text}`, without quotes"))
            }
            _ => None,
        };
        errors.push(
            value,
            format!(
                "`{option}` takes the name of a policy, not `{}`",
                compact(value)
            ),
            quoted.unwrap_or_else(|| format!("the policies are {forms}")),
        );
        return None;
    };
    let typed = word.to_string();
    let Some((_, variant, bound)) = words.iter().find(|(known, ..)| *known == typed) else {
        let near = nearest(&typed, words.iter().map(|(known, ..)| *known));
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        errors.push(
            word,
            format!("unknown policy `{typed}` of `{option}`"),
            format!("{near}the policies are {forms}"),
        );
        return None;
    };

    let policy = |variant: &str, bound| Policy {
        variant: Ident::new(variant, Span::mixed_site().located_at(word.span())),
        bound,
    };
    let Some(call) = bounds else {
        return match bound {
            Bound::None => Some(policy(variant, None)),
            Bound::Optional(unbounded) => Some(policy(unbounded, None)),
            Bound::Needed => {
                errors.push(
                    word,
                    format!("`{typed}` needs a bound"),
                    format!("write for example `{option} = {typed}(8)`"),
                );
                None
            }
        };
    };
    if *bound == Bound::None {
        errors.push(
            value,
            format!("`{typed}` takes no bound"),
            format!("write `{option} = {typed}`"),
        );
        return None;
    }
    let mut bounds = call.args.iter();
    let (Some(n), None) = (bounds.next(), bounds.next()) else {
        errors.push(
            value,
            format!("`{typed}` takes one bound, not {}", call.args.len()),
            format!("write for example `{option} = {typed}(8)`"),
        );
        return None;
    };
    if let Expr::Lit(ExprLit { lit, .. }) = n {
        let legal = matches!(
            lit,
            Lit::Int(n) if matches!(n.suffix(), "" | "usize") && n.base10_parse::<usize>().is_ok_and(|n| n > 0)
        );
        if !legal {
            errors.push(
                lit,
                format!(
                    "the bound of `{typed}` is a whole number from 1, not `{}`",
                    compact(lit)
                ),
                format!("write for example `{option} = {typed}(8)`"),
            );
            return None;
        }
    }
    Some(policy(variant, Some(n.clone())))
}

/// A single plain name.
fn as_word(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Path(ExprPath {
            qself: None, path, ..
        }) => path.get_ident(),
        Expr::Group(group) => as_word(&group.expr),
        _ => None,
    }
}

/// The function's own shape: a leading `Tick`, and the arguments that each tick gets a clone of.
fn check_fn<'f>(
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
