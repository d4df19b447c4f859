use aioxide::timer;

#[timer(100ms, missed = burst)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
