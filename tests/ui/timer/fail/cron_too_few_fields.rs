use aioxide::timer;

#[timer(cron = "0 3 * *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
