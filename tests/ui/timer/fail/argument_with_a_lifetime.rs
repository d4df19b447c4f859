use aioxide::timer;

struct Peer<'p>(&'p str);

#[timer(100ms)]
async fn heartbeat<'p>(peer: Peer<'p>) {
    println!("{}", peer.0);
}

fn main() {
    heartbeat(Peer("peer")).detach();
}
