use aioxide::timer;

#[timer(999999999999999999d)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
