#![deny(unused_must_use)]

use aioxide::timer;

#[timer(100ms)]
async fn heartbeat() {}

fn main() {
    heartbeat();
}
