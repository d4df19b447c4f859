#![deny(unused_must_use, deprecated)]
use aioxide::timer;

#[timer(100ms)]
#[must_use = "MARK"]
#[deprecated = "OLD"]
async fn heartbeat() {}

fn main() {
    heartbeat();
}
