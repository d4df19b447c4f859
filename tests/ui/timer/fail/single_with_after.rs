use aioxide::timer;

#[timer(after = 1s, single)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
