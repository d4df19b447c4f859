//! Other attributes stay, and stay in place.
#![deny(deprecated, unused_must_use, dead_code, unused_variables, missing_docs)]
use aioxide::actxmgr;

/// Documented.
#[cfg(not(any()))]
#[actxmgr]
#[must_use = "enter it"]
#[inline(never)]
pub async fn kept(#[allow(unused_variables)] unused: u8, #[cfg(any())] absent: u8, #[cfg(not(any()))] present: u8) -> u8 {
    yield_(present).await;
}

#[cfg(any())]
#[actxmgr]
async fn kept() {}

#[cfg_attr(not(any()), actxmgr)]
#[allow(dead_code)]
async fn never_entered() {
    yield_().await;
}

fn main() {
    drop(kept(1, 7));
}
