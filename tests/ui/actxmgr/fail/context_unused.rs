#![deny(unused_must_use)]
use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    yield_(1).await;
}

fn main() {
    connection();
}
