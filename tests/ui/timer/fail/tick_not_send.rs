use aioxide::timer;
use std::rc::Rc;

#[timer(100ms)]
async fn heartbeat() {
    let peers = Rc::new(7);
    std::future::ready(()).await;
    println!("{peers}");
}

fn main() {
    heartbeat().detach();
}
