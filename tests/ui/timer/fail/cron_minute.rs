use aioxide::timer;

#[timer(cron = "60 * * * *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
