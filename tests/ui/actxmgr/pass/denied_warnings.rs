//! A crate that denies everything.
#![deny(warnings, missing_docs, unused, unreachable_code, clippy::pedantic)]

use std::io;

use aioxide::actxmgr;

/// A context that is documented.
#[actxmgr]
#[must_use]
pub async fn documented(mut number: u32, (left, _): (u32, u32)) -> io::Result<u32> {
    number += left;
    let (_, exit) = yield_(number).await;
    if exit.is_success() {
        return Ok(());
    }
    Err(io::Error::other("failed"))
}

/// One whose teardown never ends.
#[actxmgr]
pub async fn for_ever() {
    let _ = yield_().await;
    loop {
        std::future::pending::<()>().await;
    }
}

/// One that borrows.
pub struct Lender(u8);

impl Lender {
    /// Lends.
    #[actxmgr(borrowed)]
    pub async fn lend(&mut self) -> &mut u8 {
        yield_(&mut self.0).await;
    }

    #[cfg(any())]
    #[actxmgr]
    pub async fn configured_away() -> Nonsense {}

    /// Ignores what it borrows.
    #[actxmgr(borrowed)]
    pub async fn ignore(&self) {
        yield_().await;
    }
}

fn main() {
    let _ = documented(1, (2, 3));
    let _ = for_ever();
    let mut lender = Lender(1);
    let _ = lender.lend();
    let _ = lender.ignore();
}
