use aioxide::timer;

#[timer(cron = "0 25 * * *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
