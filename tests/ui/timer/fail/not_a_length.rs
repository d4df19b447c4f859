use aioxide::timer;

#[timer(true)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
