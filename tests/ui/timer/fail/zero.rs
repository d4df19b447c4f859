use aioxide::timer;

#[timer(0ms)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
