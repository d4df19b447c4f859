use aioxide::timer;

#[timer(cron = "61 * * * * *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
