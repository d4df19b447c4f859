#![deny(unused_must_use, deprecated)]
use aioxide::actxmgr;

#[actxmgr]
#[must_use = "MARK"]
#[deprecated = "OLD"]
async fn connection() -> u32 {
    yield_(1).await;
}

fn main() {
    connection();
}
