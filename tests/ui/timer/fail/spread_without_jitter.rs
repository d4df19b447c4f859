use aioxide::timer;

#[timer(1h, spread = host)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
