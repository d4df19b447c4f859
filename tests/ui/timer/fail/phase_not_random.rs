use aioxide::timer;

#[timer(100ms, phase = 50ms)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
