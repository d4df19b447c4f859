use aioxide::timer;

#[timer(30m1h)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
