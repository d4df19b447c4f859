use aioxide::timer;

#[timer(1s, single, phase = random)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
