use aioxide::timer;

struct Peers;

#[timer(100ms)]
async fn heartbeat(peers: Peers) {
    let _ = peers;
}

fn main() {
    heartbeat(Peers).detach();
}
