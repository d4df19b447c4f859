use aioxide::timer;

#[timer(100ms * 2)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
