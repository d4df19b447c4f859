use aioxide::timer;

#[timer(100ms, grace = 1s, grace = 2s)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
