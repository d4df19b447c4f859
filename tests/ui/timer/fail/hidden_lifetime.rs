use aioxide::timer;

#[derive(Clone)]
struct Peer<'p>(&'p str);

#[timer(100ms)]
async fn heartbeat(peer: Peer) {
    println!("{}", peer.0);
}

fn main() {
    heartbeat(Peer(&String::from("peer"))).detach();
}
