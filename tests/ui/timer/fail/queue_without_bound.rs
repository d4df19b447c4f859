use aioxide::timer;

#[timer(100ms, overlap = queue)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
