use aioxide::timer;

#[timer(1.5h30m)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
