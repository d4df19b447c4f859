use aioxide::timer;

#[timer(1h, jitter = 1m, spread = random)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
