extern crate aioxide as vendored;

use vendored::timer;

mod aioxide {}

#[timer(100ms, crate = vendored)]
fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
