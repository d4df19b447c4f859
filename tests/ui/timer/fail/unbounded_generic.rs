use aioxide::timer;

#[timer(100ms)]
async fn heartbeat<T>(peers: T) {
    let _ = peers;
}

fn main() {
    heartbeat(7).detach();
}
