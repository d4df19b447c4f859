use aioxide::timer;

#[timer(cron = "0 0 * * monday")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
