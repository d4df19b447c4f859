#![deny(unused_must_use)]
use aioxide::actxmgr;

#[actxmgr]
async fn connection() -> u32 {
    yield_(1).await;
}

async fn user() {
    connection().await;
}

fn main() {
    let _ = user();
}
