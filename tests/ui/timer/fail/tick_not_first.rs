use aioxide::timer;
use aioxide::Tick;

#[timer(100ms)]
async fn heartbeat(peers: u32, tick: Tick) {
    println!("{peers} {tick:?}");
}

fn main() {
    heartbeat(7).detach();
}
