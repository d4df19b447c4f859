#![deny(unused_must_use, deprecated)]
use aioxide::{Worker, server};

#[server]
#[must_use = "MARK"]
#[deprecated = "OLD"]
async fn echo(_: Worker) {
    yield_().await;
}

fn main() {
    echo();
}
