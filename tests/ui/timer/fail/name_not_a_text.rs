use aioxide::timer;

#[timer(100ms, name = 7)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
