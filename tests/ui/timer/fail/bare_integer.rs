use aioxide::timer;

#[timer(100)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
