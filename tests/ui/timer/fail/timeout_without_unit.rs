use aioxide::timer;

#[timer(100ms, timeout = 5)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
