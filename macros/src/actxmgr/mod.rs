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
use crate::raw_fn::RawFn;

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
    use syn::Item;
    let parsed = syn::parse2::<Item>(item.clone());
    let (keyword, what): (TokenStream, &str) = match &parsed {
        Ok(Item::Struct(item)) => (
            quote::ToTokens::to_token_stream(&item.struct_token),
            "a struct",
        ),
        Ok(Item::Enum(item)) => (
            quote::ToTokens::to_token_stream(&item.enum_token),
            "an enum",
        ),
        Ok(Item::Impl(item)) => (
            quote::ToTokens::to_token_stream(&item.impl_token),
            "an `impl` block",
        ),
        Ok(Item::Trait(item)) => (
            quote::ToTokens::to_token_stream(&item.trait_token),
            "a trait",
        ),
        Ok(Item::Mod(item)) => (
            quote::ToTokens::to_token_stream(&item.mod_token),
            "a module",
        ),
        Ok(Item::Fn(_)) | Err(_) => return errors.push_syntax(error),
        Ok(other) => (quote::ToTokens::to_token_stream(other), "another item"),
    };
    errors.push(
        keyword,
        format!("`#[actxmgr]` goes on an `async fn`, and this is {what}"),
        "put it on the function that sets up, yields and tears down",
    );
}
