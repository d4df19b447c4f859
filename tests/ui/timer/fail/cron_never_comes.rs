use aioxide::timer;

#[timer(cron = "0 0 30 2 *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
