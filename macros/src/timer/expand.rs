//! What a timer's function becomes. Nothing here can fail.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Pat, Receiver, ReturnType};

use super::model::{Cadence, First, Model, Param, Policy};
use crate::raw_fn::RawFn;

// Input:
//     #[timer(100ms, overlap = cancel)]
//     async fn heartbeat(tick: Tick, (a, b): (u8, u8), peers: Arc<Peers>) -> io::Result<()> { body }
//
// Output:
//     #[track_caller]
//     fn heartbeat(__aioxide_arg1: (u8, u8), peers: Arc<Peers>) -> ::aioxide::Timer {
//         ::aioxide::Timer::every(Duration::new(0, 100_000_000))
//             .name("heartbeat")
//             .overlap(::aioxide::Overlap::Cancel)
//             .start(move |__aioxide_tick| {
//                 let __aioxide_arg1 = ::aioxide::__private::timer::argument(&__aioxide_arg1);
//                 let peers = ::aioxide::__private::timer::argument(&peers);
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
    let receiver = raw.sig.receiver();

    let builder = expand_builder(model);
    let (tick_name, tick_binding) = match model.tick {
        Some(tick) => {
            let attrs = &tick.attrs;
            (
                quote!(__aioxide_tick),
                quote!(#(#attrs)* let #tick = __aioxide_tick;),
            )
        }
        None => (quote!(_), TokenStream::new()),
    };
    let bindings = model.params.iter().map(expand_binding);
    // A mention, for what isn't mentioned isn't captured and would be dropped when the timer starts.
    let keep_self = receiver.map(|receiver| {
        let token = &receiver.self_token;
        quote!(let _ = &#token;)
    });
    let run = tick_block(
        raw,
        &private,
        quote!(#tick_binding #keep_self #(#bindings)*),
    );

    let tick = match receiver {
        None => {
            let clones = model.params.iter().map(|Param { attrs, name, .. }| {
                let argument = quote_spanned!(name.span()=> #private::argument(&#name));
                quote!(#(#attrs)* let #name = #argument;)
            });
            quote!(move |#tick_name| { #(#clones)* #run })
        }
        // `self` can't be bound anew for each tick, but a closure that owns it can be cloned.
        Some(receiver) => {
            let each = quote_spanned!(receiver.self_token.span()=> #private::each);
            quote!(#each(move |#tick_name| { #run }))
        }
    };
    let start = Ident::new("start", span_of_output(raw));
    let rebound = model
        .has_expressions()
        .then(|| rebind_for_options(model, &private));
    function(
        raw,
        model.params.iter().map(expand_param),
        krate,
        quote! {
            #rebound
            #builder.#start(#tick)
        },
    )
}

fn expand_builder(model: &Model<'_>) -> TokenStream {
    let krate = &model.krate;
    let (constructor, interval) = match &model.cadence {
        Cadence::Every(interval) => (quote!(every), interval),
        Cadence::After(delay) => (quote!(after), delay),
    };
    let name = &model.name;
    let mut interval = interval.to_token_stream();
    let mut first = TokenStream::new();
    let mut binding = TokenStream::new();
    match &model.first {
        None => {}
        Some(First::At(at)) => first = quote!(.first(#at)),
        Some(First::Interval) => {
            // Evaluated once, for an expression may be anything.
            binding = quote!(let __aioxide_interval = #interval;);
            interval = quote!(__aioxide_interval);
            first = quote!(.first(__aioxide_interval));
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
    let phase = model.phase.then(|| quote!(.phase()));
    let timeout = model
        .timeout
        .as_ref()
        .map(|timeout| quote!(.timeout(#timeout)));
    let grace = model.grace.as_ref().map(|grace| quote!(.grace(#grace)));
    quote! {
        #binding
        #krate::Timer::#constructor(#interval)
            .name(#name)
            #first #overlap #missed #jitter #phase #timeout #grace
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

fn expand_binding(param: &Param<'_>) -> TokenStream {
    let Param {
        attrs, name, pat, ..
    } = param;
    if param.destructures() {
        quote!(#(#attrs)* let #name = #name; #(#attrs)* let #pat = #name;)
    } else {
        quote!(#(#attrs)* let #pat = #name;)
    }
}

/// The names that patterns among the arguments bind, for the expressions of options.
fn rebind_for_options(model: &Model<'_>, private: &TokenStream) -> TokenStream {
    let bindings = model.params.iter().filter(|param| param.destructures());
    let bindings = bindings.map(
        |Param {
             attrs, name, pat, ..
         }| {
            quote! {
                #(#attrs)*
                #[allow(unused_variables, unused_mut)]
                let #pat = #private::argument(&#name);
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
pub(super) fn stub(raw: &RawFn) -> TokenStream {
    let krate = quote!(::aioxide);
    let private = quote!(#krate::__private::timer);
    let is_tick = |arg: &&FnArg| matches!(arg, FnArg::Typed(arg) if super::model::is_tick(&arg.ty));
    let tick = raw.sig.inputs.first().filter(is_tick);
    let params = raw.sig.inputs.iter().filter(|arg| {
        matches!(arg, FnArg::Typed(_)) && !tick.is_some_and(|tick| std::ptr::eq(tick, *arg))
    });
    let check = (raw.body.is_some() && !super::model::returns_impl(raw)).then(|| {
        let tick = tick.map(|tick| quote!(let #tick = #private::stub();));
        let body = tick_block(raw, &private, quote!(#tick));
        quote!(let _ = #body;)
    });
    let body = quote! {
        #check
        #private::stub()
    };
    let function = function(raw, params.map(ToTokens::to_token_stream), &krate, body);
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
    let (generics, _, where_clause) = sig.generics.split_for_impl();
    let generics = if sig.generics.params.is_empty() {
        TokenStream::new()
    } else {
        sig.generics.to_token_stream()
    };
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
fn tick_block(raw: &RawFn, private: &TokenStream, prologue: TokenStream) -> TokenStream {
    let output = match &raw.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => ty.to_token_stream(),
    };
    let body = raw.body_tokens();
    let mut block = Group::new(
        Delimiter::Brace,
        quote! {
            if let ::core::option::Option::Some(__aioxide_declared) = #private::declared::<#output>() {
                return __aioxide_declared;
            }
            #prologue
            #body
        },
    );
    if let Some(braces) = &raw.body {
        block.set_span(braces.span());
    }
    quote!(async move #block)
}

/// Where rustc points when a tick can't return what it does.
fn span_of_output(raw: &RawFn) -> Span {
    let span = match &raw.sig.output {
        ReturnType::Default => raw.name().span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    Span::mixed_site().located_at(span)
}
