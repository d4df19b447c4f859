use aioxide::timer;

#[timer(100ms, jitter)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
