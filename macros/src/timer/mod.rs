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
use crate::paths::CratePath;
use crate::raw_fn::RawFn;

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::Args::parse(args, &mut errors);
    let raw = match syn::parse2::<RawFn>(item.clone()) {
        Ok(raw) => raw,
        Err(error) => {
            function::refuse_item(&item, error, &mut errors);
            return quote!(#item #errors);
        }
    };
    // A wrong one is reported by the check.
    let krate = CratePath::from_options(&args.options, &mut Errors::default());
    let item = match model::Model::check(args, &raw, &mut errors) {
        Some(model) => expand::expand(&raw, &model),
        None => expand::stub(&raw, &krate),
    };
    quote!(#item #errors)
}
