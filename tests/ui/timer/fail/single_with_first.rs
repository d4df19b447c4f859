use aioxide::timer;

#[timer(1s, single, first = 2s)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
