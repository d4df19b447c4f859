use aioxide::timer;

#[timer]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
