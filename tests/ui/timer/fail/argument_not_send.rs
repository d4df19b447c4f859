use aioxide::timer;
use std::rc::Rc;

#[timer(100ms)]
async fn heartbeat(peers: Rc<u32>) {
    println!("{peers}");
}

fn main() {
    heartbeat(Rc::new(7)).detach();
}
