//! `#[actxmgr]`.

mod args;
mod expand;
mod model;
mod yield_point;

#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;

use self::args::Args;
use self::model::Model;
use crate::errors::Errors;
use crate::raw_fn::{self, RawFn};

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = Args::parse(args, &mut errors);
    let mut function = match syn::parse2::<RawFn>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            report_no_function(&item, error, &mut errors);
            return quote!(#item #errors);
        }
    };
    let model = Model::check(args, &mut function, &mut errors);
    let expanded = expand::expand(&function, model);
    quote!(#expanded #errors)
}

fn report_no_function(item: &TokenStream, error: syn::Error, errors: &mut Errors) {
    match raw_fn::other_item(item) {
        Some((what, keyword)) => errors.push(
            keyword,
            format!("`#[actxmgr]` goes on an `async fn`, and this is {what}"),
            "put it on the function that sets up, yields and tears down",
        ),
        None => errors.push_syntax(error),
    }
}
