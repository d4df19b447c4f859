use aioxide::timer;

#[timer(100ms, overlap = cancle)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
