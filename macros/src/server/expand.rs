//! The expansion: the worker's function, kept as it was typed, inside one that builds the server.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, GenericParam, Ident, Pat, PatType};

use super::args::Args;
use super::model::{self, Model};
use crate::raw_fn::RawFn;

// Input:
//     #[server(workers = config.workers)]
//     async fn echo(worker: Worker, config: Config) -> io::Result<()> { .. yield_().await .. }
//
// Output:
//     fn echo(config: Config) -> ::aioxide::Server {
//         async fn echo(yield_: impl Fn() -> Stopping, worker: Worker, config: Config) -> io::Result<()> { .. }
//         let __aioxide_workers = config.workers;
//         ::aioxide::__private::server("echo", move |__aioxide_worker| {
//             let __aioxide_ready = ::core::clone::Clone::clone(&__aioxide_worker);
//             echo(move || __aioxide_ready.ready(), __aioxide_worker, ::core::clone::Clone::clone(&config))
//         })
//         .workers(__aioxide_workers)
//     }
pub(crate) fn expand(args: &Args, function: &RawFn, model: &Model) -> TokenStream {
    let Model {
        krate,
        yield_,
        main,
        process,
        calls,
    } = model;
    let RawFn { attrs, vis, .. } = function;
    let name = function.name();
    let inner = inner_fn(function, &quote!(#krate::Stopping), yield_);
    let outer = outer_signature(args, function, quote!(#krate::Server));

    let caller: Vec<(Ident, Span)> = model::caller_arguments(args, function)
        .enumerate()
        .filter_map(|(nth, arg)| match arg {
            FnArg::Typed(typed) => Some((outer_name(nth, typed), typed.ty.span())),
            FnArg::Receiver(_) => None,
        })
        .collect();
    let clones = caller
        .iter()
        .map(|(name, span)| quote_spanned!(*span=> #krate::__private::clone_argument(&#name)));

    let constructor = match (main, process) {
        (None, _) => quote!(server),
        (Some(_), false) => quote!(server_with_main),
        (Some(_), true) => quote!(server_with_shared_main),
    };
    let main_argument = main.iter();
    let main_value: Vec<Ident> = main
        .iter()
        .map(|_| format_ident!("__aioxide_main"))
        .collect();

    let (lets, chain): (Vec<TokenStream>, Vec<TokenStream>) = calls
        .iter()
        .enumerate()
        .map(|(nth, (method, value))| {
            let held = format_ident!("__aioxide_option{nth}");
            (quote!(let #held = #value;), quote!(.#method(#held)))
        })
        .unzip();
    let run = model::is_main(function).then(|| quote!(.run()));
    let turbofish = turbofish(function);

    quote! {
        #(#attrs)*
        #vis #outer {
            #inner
            #(#lets)*
            #krate::__private::#constructor(
                ::core::stringify!(#name),
                #(#main_argument,)*
                move |__aioxide_worker: #krate::Worker #(, #main_value)*| {
                    let __aioxide_ready = ::core::clone::Clone::clone(&__aioxide_worker);
                    #name #turbofish (
                        move || __aioxide_ready.ready(),
                        __aioxide_worker,
                        #(#main_value,)*
                        #(#clones,)*
                    )
                },
            )
            #(#chain)*
            #run
        }
    }
}

/// The item of the right shape when there is an error: callers still compile and the body is still checked.
pub(crate) fn stub(args: &Args, function: &RawFn) -> TokenStream {
    let krate =
        crate::paths::CratePath::from_options(&args.options, &mut crate::errors::Errors::default());
    let RawFn { attrs, vis, .. } = function;
    let outer = outer_signature(args, function, quote!(#krate::Server));
    let inner = function.sig.receiver().is_none().then(|| {
        let yield_ = Ident::new(
            "yield_",
            Span::mixed_site().located_at(function.name().span()),
        );
        let yield_ = model::first_yield(function).unwrap_or(yield_);
        inner_fn(function, &quote!(#krate::Stopping), &yield_)
    });
    quote! {
        #(#attrs)*
        #[allow(unused, clippy::all)]
        #vis #outer {
            #inner
            loop {}
        }
    }
}

/// The user's function with `yield_` for its first argument.
fn inner_fn(function: &RawFn, stopping: &TokenStream, yield_: &Ident) -> TokenStream {
    let sig = &function.sig;
    let (name, inputs, output) = (&sig.ident, &sig.inputs, &sig.output);
    let (generics, where_clause) = (&sig.generics, &sig.generics.where_clause);
    let body = &function.body;
    quote! {
        async fn #name #generics (
            #yield_: impl ::core::ops::Fn() -> #stopping + ::core::clone::Clone + 'static,
            #inputs
        ) #output #where_clause #body
    }
}

fn outer_signature(args: &Args, function: &RawFn, server: TokenStream) -> TokenStream {
    let name = function.name();
    if model::is_main(function) {
        return quote!(fn #name() -> ::std::process::ExitCode);
    }
    let (generics, where_clause) = (&function.sig.generics, &function.sig.generics.where_clause);
    let arguments =
        model::caller_arguments(args, function)
            .enumerate()
            .map(|(nth, arg)| match arg {
                FnArg::Typed(typed) => {
                    let (name, ty) = (outer_name(nth, typed), &typed.ty);
                    quote!(#name: #ty)
                }
                FnArg::Receiver(receiver) => quote!(#receiver),
            });
    quote!(fn #name #generics (#(#arguments),*) -> #server #where_clause)
}

/// The user's name for an argument, so that options can use it; a made-up one for a pattern.
fn outer_name(nth: usize, argument: &PatType) -> Ident {
    match &*argument.pat {
        Pat::Ident(pat) if pat.subpat.is_none() => pat.ident.clone(),
        _ => format_ident!("__aioxide_argument{nth}"),
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
