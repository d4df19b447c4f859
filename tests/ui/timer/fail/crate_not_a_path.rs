use aioxide::timer;

#[timer(100ms, crate = "aioxide")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
