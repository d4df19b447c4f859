use aioxide::timer;

#[timer(100ms)]
async fn heartbeat(peer: &str) {
    println!("{peer}");
}

fn main() {
    heartbeat("peer").detach();
}
