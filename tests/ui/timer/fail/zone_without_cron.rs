use aioxide::timer;

#[timer(1h, zone = "Asia/Seoul")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
