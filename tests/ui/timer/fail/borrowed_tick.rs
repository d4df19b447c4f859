use aioxide::timer;
use aioxide::Tick;

#[timer(100ms)]
async fn heartbeat(tick: &Tick) {
    println!("{tick:?}");
}

fn main() {
    heartbeat().detach();
}
