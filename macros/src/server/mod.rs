//! `#[server]`: an async worker function becomes a supervised multi-worker server.

mod args;
mod expand;
mod model;

use proc_macro2::TokenStream;
use quote::quote;

use crate::errors::Errors;
use crate::raw_fn::RawFn;

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::Args::parse(args, &mut errors);
    let function: RawFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            errors.push(
                first_token(&item),
                format!("`#[server]` goes on an async function: {error}"),
                "write `#[server] async fn main(worker: Worker) { .. }`",
            );
            return quote!(#item #errors);
        }
    };
    let expanded = match model::Model::check(&args, &function, &mut errors) {
        Some(model) => expand::expand(&args, &function, &model),
        None => expand::stub(&args, &function),
    };
    quote!(#expanded #errors)
}

fn first_token(item: &TokenStream) -> TokenStream {
    item.clone().into_iter().take(1).collect()
}
