//! The expansion: the worker's function, kept as it was typed, inside one that builds the server.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Expr, FnArg, GenericParam, Ident, Pat, PatType, ReturnType};

use super::args::Args;
use super::model::{self, Argument, Call, Invoked, MainGoesTo, Model};
use crate::errors::Errors;
use crate::options::mentions;
use crate::paths::CratePath;
use crate::raw_fn::RawFn;

// Input:
//     #[server(workers = config.workers)]
//     async fn echo(worker: Worker, config: Config) -> io::Result<()> { .. yield_().await .. }
//
// Output:
//     fn echo(config: Config) -> ::aioxide::Server {
//         async fn echo(yield_: impl ::aioxide::__private::Ready, worker: Worker, config: Config) -> io::Result<()> { .. }
//         let __aioxide_workers: ::core::primitive::usize = config.workers;
//         let config = ::aioxide::__private::argument(&config);
//         ::aioxide::__private::server(concat!(module_path!(), "::", "echo"), move |__aioxide_worker| {
//             let __aioxide_yield = ::aioxide::__private::ready(&__aioxide_worker);
//             let __aioxide_worker = ::aioxide::__private::worker(__aioxide_worker);
//             let __aioxide_running = echo(__aioxide_yield, __aioxide_worker, config.get());
//             ::aioxide::__private::ending(__aioxide_running)
//         })
//         .workers(__aioxide_workers)
//     }
pub(crate) fn expand(args: &Args, function: &RawFn, model: &Model) -> TokenStream {
    let Model {
        krate,
        yield_,
        main,
        main_goes_to,
        extras,
        calls,
    } = model;
    let RawFn {
        attrs, vis, sig, ..
    } = function;
    let name = function.name();
    let text = syn::ext::IdentExt::unraw(name).to_string();
    let in_options = calls
        .iter()
        .map(|call| call.value.clone())
        .chain(main.iter().chain(extras).map(Invoked::values))
        .collect();
    let inner = inner_fn(args, function, krate, yield_, &function.body, &in_options);
    let outer = outer_signature(args, function, quote!(#krate::Server));

    let worker = mixed("__aioxide_worker");
    let ready = mixed("__aioxide_yield");
    let running = mixed("__aioxide_running");
    let main_value = mixed("__aioxide_main");
    let mut filled_in = function.typed_args().map(|argument| argument.ty.span());
    let worker_span = filled_in.next().unwrap_or_else(Span::call_site);
    let main_span = filled_in.next().unwrap_or_else(Span::call_site);
    let this_worker = located(worker_span, quote!(#krate::__private::worker(#worker)));
    let mut invoked = TokenStream::new();
    let main = Vec::from_iter(main.as_ref().map(|main| {
        let mut context = main_context(krate, main, &mut invoked);
        if extras.iter().any(Invoked::takes_main) {
            let held = mixed("__aioxide_context");
            invoked.extend(quote!(let #held = #context;));
            context = held.to_token_stream();
        }
        let value = located(
            main_span,
            quote!(#krate::__private::main_value(#main_value)),
        );
        (context, main_value, value)
    }));
    let extras = extras
        .iter()
        .enumerate()
        .map(|(nth, extra)| extra_call(args, krate, (nth, extra), &mut invoked));
    let extras = Vec::from_iter(extras);
    let main_context = main.iter().map(|(context, ..)| context);
    let main_parameter = main.iter().map(|(_, parameter, _)| parameter);
    let main_value = main.iter().map(|(.., value)| value);
    let ends_in = match &sig.output {
        ReturnType::Default => name.span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let ending = located(ends_in, quote!(#krate::__private::ending(#running)));

    let arguments = model::caller_arguments(args, function).enumerate();
    let (held, given): (Vec<_>, Vec<_>) = arguments
        .map(|(nth, argument)| {
            let name = outer_name(nth, argument);
            let cfgs = cfgs(argument);
            let hold = located(
                argument.ty.span(),
                quote!(#krate::__private::argument(&#name)),
            );
            (
                quote!(#(#cfgs)* let #name = #hold;),
                quote!(#(#cfgs)* #name.get()),
            )
        })
        .unzip();
    let (lets, chain): (Vec<_>, Vec<_>) = calls.iter().map(builder_call).unzip();

    let constructor = match (main.is_empty(), main_goes_to) {
        (true, _) => quote!(server),
        (false, MainGoesTo::Threads) => quote!(server_with_main),
        (false, MainGoesTo::Processes) => quote!(server_with_shared_main),
        (false, MainGoesTo::Either) => quote!(server_with_main_for_either),
    };
    let run = model::is_main(function).then(|| quote!(.run()));
    let turbofish = turbofish(function);

    quote! {
        #(#attrs)*
        #vis #outer {
            #inner
            #(#lets)*
            #invoked
            #(#held)*
            #krate::__private::#constructor(
                ::core::concat!(::core::module_path!(), "::", #text),
                #(#main_context,)*
                move |#worker: #krate::Worker #(, #main_parameter)*| {
                    let #ready = #krate::__private::ready(&#worker);
                    let #worker = #this_worker;
                    let #running = #name #turbofish (#ready, #worker, #(#main_value,)* #(#given,)*);
                    #ending
                },
            )
            #(#extras)*
            #(#chain)*
            #run
        }
    }
}

/// What gives the main context. What it needs before that is added to `before`.
fn main_context(krate: &CratePath, main: &Invoked, before: &mut TokenStream) -> TokenStream {
    let path = &main.function;
    let span = path.span();
    let enter = located(span, quote!(#krate::__private::main));
    let arguments = given(krate, "__aioxide_main", &main.arguments, before);
    if arguments.is_empty() {
        return quote_spanned!(span=> #enter(#path));
    }
    quote_spanned!(span=> #enter(move || #path(#(#arguments),*)))
}

/// The builder's call for the `nth` extra. What it needs before that is added to `before`.
fn extra_call(
    args: &Args,
    krate: &CratePath,
    (nth, extra): (usize, &Invoked),
    before: &mut TokenStream,
) -> TokenStream {
    let (path, name) = (&extra.function, extra.name());
    let typed = args.options.flag("extra");
    let method = Ident::new("extra", typed.map_or_else(Span::call_site, Ident::span));
    let prefix = format!("__aioxide_extra{nth}");
    let arguments = given(krate, &prefix, &extra.arguments, before);
    if arguments.is_empty() {
        return quote!(.#method(#name, #path));
    }
    let worker = mixed("__aioxide_worker");
    if !extra.takes_main() {
        return quote! {
            .#method(#name, move |#worker: #krate::Worker| #path(#worker, #(#arguments),*))
        };
    }
    let (held, context, main) = (
        mixed(&prefix),
        mixed("__aioxide_context"),
        mixed("__aioxide_main"),
    );
    before.extend(quote! {
        let #held = #krate::__private::extra_with_main(
            &#context,
            move |#worker: #krate::Worker, #main| #path(#worker, #(#arguments),*),
        );
    });
    quote!(.#method(#name, #held))
}

/// The arguments of a function that an option calls, as they are where it is called, for each start anew. What holds
/// them until then is added to `before`.
fn given(
    krate: &CratePath,
    prefix: &str,
    arguments: &[Argument],
    before: &mut TokenStream,
) -> Vec<TokenStream> {
    let arguments = arguments.iter().enumerate();
    let given = arguments.map(|(nth, argument)| match argument {
        Argument::Main(word) => located(word.span(), mixed("__aioxide_main").to_token_stream()),
        Argument::Value(value) => {
            let held = format_ident!("{prefix}_{nth}", span = Span::mixed_site());
            let value = match value {
                Expr::Path(_)
                | Expr::Lit(_)
                | Expr::Field(_)
                | Expr::MethodCall(_)
                | Expr::Call(_)
                | Expr::Macro(_) => value.to_token_stream(),
                // What binds less than a reference.
                _ => quote_spanned!(value.span()=> (#value)),
            };
            let span = value.span();
            let hold = located(span, quote!(#krate::__private::argument));
            before.extend(quote!(let #held = #hold(&#value);));
            located(span, quote!(#held.get()))
        }
    });
    given.collect()
}

/// The item of the right shape when there is an error: callers still compile and the body is still checked, if
/// `keep_body`.
pub(crate) fn stub(args: &Args, function: &RawFn, yield_: &Ident, keep_body: bool) -> TokenStream {
    let krate = CratePath::from_options(&args.options, &mut Errors::default());
    let RawFn { attrs, vis, .. } = function;
    let outer = outer_signature(args, function, quote!(#krate::Server));
    let Some(body) = &function.body else {
        return quote!(#(#attrs)* #vis #outer;);
    };
    let body = if keep_body {
        body.to_token_stream()
    } else {
        quote!({ loop {} })
    };
    // What `self` is can't be said in an inner function.
    let inner = function
        .sig
        .receiver()
        .is_none()
        .then(|| inner_fn(args, function, &krate, yield_, &body, &TokenStream::new()));
    quote! {
        #(#attrs)*
        #[allow(unused, clippy::all)]
        #vis #outer {
            #inner
            loop {}
        }
    }
}

/// The user's function with `yield_` for its first argument. What the options use need not be used again.
fn inner_fn(
    args: &Args,
    function: &RawFn,
    krate: &CratePath,
    yield_: &Ident,
    body: &impl ToTokens,
    in_options: &TokenStream,
) -> TokenStream {
    let mut sig = function.sig.clone();
    for argument in sig.inputs.iter_mut().skip(model::filled_in(args)) {
        if let FnArg::Typed(PatType { attrs, pat, .. }) = argument {
            if matches!(&**pat, Pat::Ident(pat) if mentions(in_options, &pat.ident)) {
                attrs.push(syn::parse_quote!(#[allow(unused_variables)]));
            }
        }
    }
    sig.asyncness.get_or_insert_with(Default::default);
    sig.constness = None;
    sig.safety = syn::Safety::Default;
    sig.abi = None;
    sig.variadic = None;
    let argument = syn::parse_quote!(#yield_: impl #krate::__private::Ready);
    sig.inputs.insert(0, argument);
    // As many as the user may write are allowed, and `yield_`.
    let allow = (sig.inputs.len() > 7).then(|| quote!(#[allow(clippy::too_many_arguments)]));
    quote!(#allow #sig #body)
}

fn outer_signature(args: &Args, function: &RawFn, server: TokenStream) -> TokenStream {
    let name = function.name();
    if model::is_main(function) {
        return quote!(fn #name() -> ::std::process::ExitCode);
    }
    let (generics, where_clause) = (&function.sig.generics, &function.sig.generics.where_clause);
    let receiver = function.sig.receiver().map(|receiver| quote!(#receiver,));
    let arguments = model::caller_arguments(args, function)
        .enumerate()
        .map(|(nth, argument)| {
            let (cfgs, name, ty) = (cfgs(argument), outer_name(nth, argument), &argument.ty);
            quote!(#(#cfgs)* #name: #ty)
        });
    quote!(fn #name #generics (#receiver #(#arguments),*) -> #server #where_clause)
}

/// The user's name for an argument, so that options can use it; a made-up one for a pattern, and for a name that
/// clippy would not have used.
fn outer_name(nth: usize, argument: &PatType) -> Ident {
    match &*argument.pat {
        Pat::Ident(pat) if pat.subpat.is_none() && !pat.ident.to_string().starts_with('_') => {
            pat.ident.clone()
        }
        _ => format_ident!("__aioxide_argument{nth}", span = Span::mixed_site()),
    }
}

/// What decides whether an argument is there; its other attributes are for the worker's body.
fn cfgs(argument: &PatType) -> Vec<&Attribute> {
    let decides =
        |attr: &&Attribute| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr");
    argument.attrs.iter().filter(decides).collect()
}

/// What stands before the builder, where the arguments are still there for an expression, and what is called
/// on it.
fn builder_call(call: &Call) -> (TokenStream, TokenStream) {
    let Call {
        method,
        value,
        expression,
    } = call;
    match expression {
        None => (TokenStream::new(), quote!(.#method(#value))),
        Some(ty) => {
            let held = format_ident!("__aioxide_{method}", span = Span::mixed_site());
            (quote!(let #held: #ty = #value;), quote!(.#method(#held)))
        }
    }
}

/// Names the type and const parameters, which the arguments need not determine.
fn turbofish(function: &RawFn) -> Option<TokenStream> {
    let parameters: Vec<&Ident> = function
        .sig
        .generics
        .params
        .iter()
        .filter_map(|parameter| match parameter {
            GenericParam::Type(parameter) => Some(&parameter.ident),
            GenericParam::Const(parameter) => Some(&parameter.ident),
            GenericParam::Lifetime(_) => None,
        })
        .collect();
    (!parameters.is_empty()).then(|| quote!(::<#(#parameters),*>))
}

fn mixed(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// `tokens`, with rustc pointing at `span` when it rejects them.
fn located(span: Span, tokens: TokenStream) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut token| {
            if let TokenTree::Group(group) = &token {
                let content = located(span, group.stream());
                token = Group::new(group.delimiter(), content).into();
            }
            token.set_span(token.span().located_at(span));
            token
        })
        .collect()
}
