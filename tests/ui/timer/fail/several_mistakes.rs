use aioxide::timer;

#[timer(100, overlap = never, graec = 1s)]
async fn heartbeat(peer: &str) {
    println!("{peer}");
}

fn main() {
    heartbeat("peer").detach();
}
