use aioxide::timer;

#[timer(millis)]
async fn heartbeat(millis: u64) {
    let _ = millis;
}

fn main() {
    heartbeat(100).detach();
}
