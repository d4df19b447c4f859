//! `#[timer]`.

mod args;
#[cfg(feature = "calendar")]
mod calendar;
mod expand;
mod function;
mod model;
mod policy;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;

use crate::errors::Errors;
use crate::neighbours;
use crate::paths::CratePath;
use crate::raw_fn::RawFn;

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::Args::parse(args, &mut errors);
    let mut raw = match syn::parse2::<RawFn>(item.clone()) {
        Ok(raw) => raw,
        Err(error) => {
            function::refuse_item(&item, error, &mut errors);
            return quote!(#item #errors);
        }
    };
    if let Some(attr) = neighbours::take_instrument(&mut raw) {
        errors.push(
            attr,
            "`#[instrument]` below `#[timer]` would trace the start of the timer, once, and none of its ticks",
            "write `#[instrument]` above `#[timer]`: then each tick has a span of its own",
        );
    }
    if let Some(attr) = neighbours::take_runtime_attribute(&mut raw) {
        errors.push(
            attr,
            format!(
                "`#[tokio::main]` and `#[timer]` don't mix: `{}` becomes a function that starts a timer and is not async",
                raw.name()
            ),
            "put it on another function, which starts this timer: `main`, or a test",
        );
    }
    // A wrong one is reported by the check.
    let krate = CratePath::from_options(&args.options, &mut Errors::default());
    let item = match model::Model::check(args, &raw, &mut errors) {
        Some(model) => expand::expand(&raw, &model),
        None => expand::stub(&raw, &krate),
    };
    quote!(#item #errors)
}
