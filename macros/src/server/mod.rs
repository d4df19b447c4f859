//! `#[server]`: an async worker function becomes a supervised multi-worker server.

mod args;
mod expand;
mod model;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;

use self::model::{Checked, Model};
use crate::errors::Errors;
use crate::raw_fn::{self, RawFn};

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::Args::parse(args, &mut errors);
    let function: RawFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            match raw_fn::other_item(&item) {
                Some((what, keyword)) => errors.push(
                    keyword,
                    format!("`#[server]` goes on an `async fn`, and this is {what}"),
                    "put it on the function that a worker runs: `async fn main(worker: Worker)`",
                ),
                None => errors.push_syntax(error),
            }
            return quote!(#item #errors);
        }
    };
    let expanded = match Model::check(&args, &function, &mut errors) {
        Checked::Legal(model) => expand::expand(&args, &function, &model),
        Checked::Wrong { yield_, keep_body } => expand::stub(&args, &function, &yield_, keep_body),
    };
    quote!(#expanded #errors)
}
