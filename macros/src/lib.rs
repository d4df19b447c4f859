//! The attributes of [aioxide](https://docs.rs/aioxide). They are re-exported, and documented, there.
#![forbid(unsafe_code)]
// rustdoc would append it to what the re-exports say.
#![allow(missing_docs, reason = "documented where they are re-exported")]

mod actxmgr;
mod duration;
mod errors;
mod neighbours;
mod options;
mod paths;
mod raw_fn;
#[cfg(test)]
mod robustness;
mod server;
mod size;
#[cfg(test)]
mod tests;
mod timer;

use proc_macro::TokenStream;

#[proc_macro_attribute]
pub fn actxmgr(args: TokenStream, item: TokenStream) -> TokenStream {
    actxmgr::attribute(args.into(), item.into()).into()
}

#[proc_macro_attribute]
pub fn server(args: TokenStream, item: TokenStream) -> TokenStream {
    server::attribute(args.into(), item.into()).into()
}

#[proc_macro_attribute]
pub fn timer(args: TokenStream, item: TokenStream) -> TokenStream {
    timer::attribute(args.into(), item.into()).into()
}
