use aioxide::timer;

#[timer(0.1)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
