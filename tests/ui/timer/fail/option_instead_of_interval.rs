use aioxide::timer;

#[timer(jitter)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
