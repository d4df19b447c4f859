use aioxide::timer;

#[timer(0.5ms)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
