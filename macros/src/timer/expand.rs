//! What a timer's function becomes. Nothing here can fail.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, PatType, ReturnType};

use super::function::{Param, is_tick_or_borrowed, returns_impl};
use super::model::{Cadence, First, Model, Single};
use super::policy::Policy;
use crate::options::mentions;
use crate::paths::CratePath;
use crate::raw_fn::{RawFn, allow_underscore};

// Input:
//     #[timer(100ms, overlap = cancel)]
//     async fn heartbeat(tick: Tick, (a, b): (u8, u8), peers: Arc<Peers>) -> io::Result<()> { body }
//
// Output:
//     #[track_caller]
//     fn heartbeat(__aioxide_arg1: (u8, u8), peers: Arc<Peers>) -> ::aioxide::Timer {
//         let __aioxide_arg1 = ::aioxide::__private::timer::argument(&__aioxide_arg1).of(__aioxide_arg1);
//         let peers = ::aioxide::__private::timer::argument(&peers).of(peers);
//         ::aioxide::Timer::every(Duration::new(0, 100_000_000))
//             .name("heartbeat")
//             .overlap(::aioxide::Overlap::Cancel)
//             .start(move |__aioxide_tick| {
//                 let __aioxide_arg1 = ::core::clone::Clone::clone(&__aioxide_arg1);
//                 let peers = ::core::clone::Clone::clone(&peers);
//                 async move {
//                     if let Some(declared) = ::aioxide::__private::timer::declared::<io::Result<()>>() {
//                         return declared;
//                     }
//                     let tick: Tick = __aioxide_tick;
//                     let __aioxide_arg1 = __aioxide_arg1;
//                     let (a, b) = __aioxide_arg1;
//                     let peers = peers;
//                     body
//                 }
//             })
//     }
//
// The arguments are rebound in order so that they are dropped as those of a function are. The `return` never
// runs: it tells rustc what the block gives before the first `return`, `?` or coercion of the user's.
pub(super) fn expand(raw: &RawFn, model: &Model<'_>) -> TokenStream {
    let krate = &model.krate;
    let private = quote!(#krate::__private::timer);
    // Where rustc points at what isn't the user's: the function's name, not the attribute.
    let site = Span::mixed_site().located_at(raw.name().span());

    let accepted = model.params.iter().map(|Param { attrs, name, .. }| {
        let fit = expand_fitness(&private, name, name.span());
        let allow = allow_underscore(name);
        quote!(#(#attrs)* #allow let #name = #fit.of(#name);)
    });
    let names_for_options = model
        .has_expressions()
        .then(|| names_for_options(model, site));
    let builder = expand_builder(model, site);
    let start = Ident::new("start", span_of_output(raw));

    let (tick, tick_binding) = match model.tick {
        Some(PatType { attrs, pat, ty, .. }) => {
            let tick = quote_spanned!(site=> __aioxide_tick);
            let binding = quote!(#(#attrs)* let #pat: #ty = #tick;);
            (tick, binding)
        }
        None => (quote!(_), TokenStream::new()),
    };
    let bindings = model
        .params
        .iter()
        .map(|param| expand_binding(param, &builder));
    let tick = match raw.sig.receiver() {
        None => {
            let clones = model.params.iter().map(|Param { attrs, name, .. }| {
                let clone = quote_spanned!(name.span()=> ::core::clone::Clone::clone(&#name));
                let allow = allow_underscore(name);
                quote!(#(#attrs)* #allow let #name = #clone;)
            });
            let run = tick_block(raw, &private, site, quote!(#tick_binding #(#bindings)*));
            quote_spanned!(site=> move |#tick| { #(#clones)* #run })
        }
        // `self` can't be bound anew for each tick, but a closure that owns it can be cloned.
        Some(receiver) => {
            let token = &receiver.self_token;
            // A mention, for what isn't mentioned isn't captured and would be dropped with the call.
            let bindings = quote!(#tick_binding let _ = &#token; #(#bindings)*);
            let run = tick_block(raw, &private, site, bindings);
            let site = Span::mixed_site().located_at(token.span);
            let fit = expand_fitness(&private, token, token.span);
            quote_spanned!(site=> #fit.each(move |#tick| { #run }))
        }
    };
    function(
        raw,
        model.params.iter().map(expand_param),
        krate,
        quote! {
            #(#accepted)*
            #names_for_options
            #builder.#start(#tick)
        },
    )
}

fn expand_builder(model: &Model<'_>, site: Span) -> TokenStream {
    let krate = &model.krate;
    let (constructor, mut interval) = match &model.cadence {
        Cadence::Every(interval) => (quote!(Timer::every), interval.to_token_stream()),
        Cadence::After(delay) => (quote!(Timer::after), delay.to_token_stream()),
        Cadence::Calendar(cron, zone) => {
            let private = quote!(#krate::__private::timer);
            let cron = quote!({
                static __AIOXIDE_CRON: #private::Cron = #private::Cron::new(#cron);
                &__AIOXIDE_CRON
            });
            (quote!(__private::timer::calendar), quote!(#cron, #zone))
        }
    };
    let name = &model.name;
    let mut first = TokenStream::new();
    let mut binding = TokenStream::new();
    match &model.first {
        None => {}
        Some(First::At(at)) => first = quote!(.first(#at)),
        Some(First::Interval) => {
            // Evaluated once, for an expression may be anything.
            binding = quote_spanned!(site=> let __aioxide_interval = #interval;);
            interval = quote_spanned!(site=> __aioxide_interval);
            first = quote!(.first(#interval));
        }
    }
    let overlap = model.overlap.as_ref().map(|policy| {
        let policy = expand_policy(policy);
        quote!(.overlap(#krate::Overlap::#policy))
    });
    let missed = model.missed.as_ref().map(|policy| {
        let policy = expand_policy(policy);
        quote!(.missed(#krate::Missed::#policy))
    });
    let jitter = model.jitter.as_ref().map(|jitter| quote!(.jitter(#jitter)));
    let spread = model.spread.then(|| quote!(.spread()));
    let phase = model.phase.then(|| quote!(.phase()));
    let timeout = model
        .timeout
        .as_ref()
        .map(|timeout| quote!(.timeout(#timeout)));
    let grace = model.grace.as_ref().map(|grace| quote!(.grace(#grace)));
    let single = model.single.as_ref().map(|single| match single {
        Single::Workers => quote!(.single()),
        // The ticks may have it too.
        Single::Cluster(lease) => quote!(.single_by(::core::clone::Clone::clone(&#lease))),
    });
    let ttl = model.ttl.as_ref().map(|ttl| quote!(.ttl(#ttl)));
    let delivery = model
        .delivery
        .as_ref()
        .map(|delivery| quote!(.delivery(#krate::Delivery::#delivery)));
    let on_error = model.on_error.as_ref().map(|path| quote!(.on_error(#path)));
    quote! {
        #binding
        #krate::#constructor(#interval)
            .name(#name)
            #first #overlap #missed #jitter #spread #phase #timeout #grace #single #ttl #delivery #on_error
    }
}

fn expand_policy(Policy { variant, bound }: &Policy) -> TokenStream {
    let bound = bound.as_ref().map(|bound| quote!((#bound)));
    quote!(#variant #bound)
}

fn expand_param(
    Param {
        attrs, name, ty, ..
    }: &Param<'_>,
) -> TokenStream {
    quote!(#(#attrs)* #name: #ty)
}

/// Asks whether `argument` is fit for a timer; rustc's answer points at it. Of tokens that aren't the user's, for with
/// those rustc would have the user borrow it.
fn expand_fitness(private: &TokenStream, argument: &impl ToTokens, span: Span) -> TokenStream {
    let span = Span::mixed_site().located_at(span);
    quote_spanned!(span=> #private::argument(&#argument))
}

/// What the `options` use need not be used again.
fn expand_binding(param: &Param<'_>, options: &TokenStream) -> TokenStream {
    let Param {
        attrs, name, pat, ..
    } = param;
    if param.destructures() {
        quote!(#(#attrs)* let #name = #name; #(#attrs)* let #pat = #name;)
    } else {
        let allow = mentions(options, name).then(|| quote!(#[allow(unused_variables)]));
        let underscore = allow_underscore(name);
        quote!(#(#attrs)* #allow #underscore let #pat = #name;)
    }
}

/// What patterns among the arguments bind, for the expressions of options.
fn names_for_options(model: &Model<'_>, site: Span) -> TokenStream {
    let params = model.params.iter().filter(|param| param.destructures());
    let bindings = params.map(
        |Param {
             attrs, name, pat, ..
         }| {
            quote_spanned! {site=>
                #(#attrs)*
                #[allow(unused_variables, unused_mut)]
                let #pat = ::core::clone::Clone::clone(&#name);
            }
        },
    );
    quote!(#(#bindings)*)
}

// Output, for a function that can't be a timer's:
//     fn heartbeat(peers: &Peers) -> ::aioxide::Timer {
//         let _ = async move {
//             if let Some(declared) = ::aioxide::__private::timer::declared::<io::Result<()>>() {
//                 return declared;
//             }
//             let tick: Tick = ::aioxide::__private::timer::stub();
//             body
//         };
//         ::aioxide::__private::timer::stub()
//     }
//
// It takes what the caller gives and gives what the caller expects, and the body is still type-checked.
pub(super) fn stub(raw: &RawFn, krate: &CratePath) -> TokenStream {
    let private = quote!(#krate::__private::timer);
    let (ticks, params): (Vec<_>, Vec<_>) = raw
        .typed_args()
        .partition(|arg| is_tick_or_borrowed(&arg.ty));
    let check = (raw.body.is_some() && !returns_impl(raw)).then(|| {
        let bindings = ticks.iter().map(
            |PatType { attrs, pat, ty, .. }| quote!(#(#attrs)* let #pat: #ty = #private::stub();),
        );
        let body = tick_block(raw, &private, Span::mixed_site(), quote!(#(#bindings)*));
        quote!(let _ = #body;)
    });
    let body = quote! {
        #check
        #private::stub()
    };
    let params = params.into_iter().map(ToTokens::to_token_stream);
    let function = function(raw, params, krate, body);
    quote!(#[allow(unused, clippy::all)] #function)
}

/// The item around `body`.
fn function(
    raw: &RawFn,
    params: impl Iterator<Item = TokenStream>,
    krate: &impl ToTokens,
    body: TokenStream,
) -> TokenStream {
    let RawFn {
        attrs, vis, sig, ..
    } = raw;
    let track_caller = (!attrs.iter().any(is_track_caller)).then(|| quote!(#[track_caller]));
    let name = &sig.ident;
    let receiver = sig.receiver().map(|receiver| quote!(#receiver,));
    let generics = &sig.generics;
    let where_clause = &generics.where_clause;
    quote! {
        #(#attrs)*
        #track_caller
        #vis fn #name #generics(#receiver #(#params),*) -> #krate::Timer #where_clause {
            #body
        }
    }
}

fn is_track_caller(attr: &Attribute) -> bool {
    attr.path().is_ident("track_caller")
}

/// The user's statements, in the user's braces, after `prologue`.
fn tick_block(
    raw: &RawFn,
    private: &TokenStream,
    site: Span,
    prologue: TokenStream,
) -> TokenStream {
    let output = match &raw.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => ty.to_token_stream(),
    };
    let declared = quote_spanned! {span_of_output(raw)=>
        if let ::core::option::Option::Some(__aioxide_declared) = #private::declared::<#output>() {
            return __aioxide_declared;
        }
    };
    let body = raw.body_tokens();
    let mut block = Group::new(Delimiter::Brace, quote!(#declared #prologue #body));
    if let Some(braces) = &raw.body {
        block.set_span(braces.span());
    }
    quote_spanned!(site=> async move #block)
}

/// Where rustc points when a tick can't return what it does.
fn span_of_output(raw: &RawFn) -> Span {
    let span = match &raw.sig.output {
        ReturnType::Default => raw.name().span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    Span::mixed_site().located_at(span)
}
