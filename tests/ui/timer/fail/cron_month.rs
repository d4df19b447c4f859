use aioxide::timer;

#[timer(cron = "0 0 * 13 *")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
