use aioxide::timer;

#[timer(after = 1h, cron = "0 3 * * *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
