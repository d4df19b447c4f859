use aioxide::timer;

#[timer(1s, single, delivery = exactly_once)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
