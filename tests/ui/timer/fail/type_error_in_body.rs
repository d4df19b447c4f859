use aioxide::timer;

#[timer(100ms)]
async fn heartbeat(peers: u32) {
    let name: String = peers;
    println!("{name}");
}

fn main() {
    heartbeat(7).detach();
}
