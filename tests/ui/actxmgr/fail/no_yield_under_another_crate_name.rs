extern crate aioxide as vendored;

use vendored::actxmgr;

mod aioxide {}

#[actxmgr(crate = vendored)]
async fn connection() -> u32 {}

async fn user() {
    connection().await.exit().await;
}

fn main() {}
