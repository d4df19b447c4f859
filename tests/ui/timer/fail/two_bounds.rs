use aioxide::timer;

#[timer(100ms, overlap = queue(1, 2))]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
