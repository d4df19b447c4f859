use aioxide::timer;

#[timer(100ms, overlab = skip)]
async fn heartbeat(peers: u32) {
    let name: String = peers;
    println!("{name}");
}

fn main() {
    heartbeat(7).detach();
}
