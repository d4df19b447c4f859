use aioxide::timer;

#[timer(100ms)]
async fn heartbeat(peers: u8, _: ...) {
    let _ = peers;
}

fn main() {
    heartbeat(1).detach();
}
