use aioxide::timer;

#[timer(100ms, jitter = 100ms)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
