use aioxide::timer;

#[timer(100ms, missed = replay)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
