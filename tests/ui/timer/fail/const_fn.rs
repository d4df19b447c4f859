use aioxide::timer;

#[timer(100ms)]
const async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
