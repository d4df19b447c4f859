use aioxide::timer;

#[timer(interval = 100ms)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
