use aioxide::timer;

#[timer(cron = "0 0 32 * *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
