use aioxide::timer;

#[timer(1h1h)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
