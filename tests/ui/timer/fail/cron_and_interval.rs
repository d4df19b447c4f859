use aioxide::timer;

#[timer(1h, cron = "0 3 * * *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
