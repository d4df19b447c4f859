use aioxide::timer;

#[timer(100ms, banana = 3)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
