use aioxide::timer;

#[timer(100ms, overlap = "skip")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
