use aioxide::timer;

#[timer(100ms, overlap = drop)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
