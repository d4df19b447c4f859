use aioxide::timer;

#[timer(100ms, overlap = skip(3))]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
