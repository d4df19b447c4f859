use aioxide::{Tick, timer};

#[timer(100ms)]
async fn heartbeat(tick: Tick) {
    tick.
}

fn main() {
    heartbeat().detach();
}
