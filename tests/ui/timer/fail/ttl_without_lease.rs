use aioxide::timer;

#[timer(1s, single, ttl = 5s)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
