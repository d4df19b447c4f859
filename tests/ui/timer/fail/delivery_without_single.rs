use aioxide::timer;

#[timer(1s, delivery = at_most_once)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
