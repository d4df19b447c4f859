use aioxide::timer;

#[timer(100us)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
