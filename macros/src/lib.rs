//! The attributes of [aioxide](https://docs.rs/aioxide). They are re-exported, and documented, there.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

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
mod timer;

use proc_macro::TokenStream;

/// See `aioxide::actxmgr`.
#[proc_macro_attribute]
pub fn actxmgr(args: TokenStream, item: TokenStream) -> TokenStream {
    actxmgr::attribute(args.into(), item.into()).into()
}

/// See `aioxide::server`.
#[proc_macro_attribute]
pub fn server(args: TokenStream, item: TokenStream) -> TokenStream {
    server::attribute(args.into(), item.into()).into()
}

/// See `aioxide::timer`.
#[proc_macro_attribute]
pub fn timer(args: TokenStream, item: TokenStream) -> TokenStream {
    timer::attribute(args.into(), item.into()).into()
}
