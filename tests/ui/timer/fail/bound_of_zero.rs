use aioxide::timer;

#[timer(100ms, overlap = allow(0))]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
