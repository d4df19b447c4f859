use aioxide::timer;

#[timer(100ms, after = 1s)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
