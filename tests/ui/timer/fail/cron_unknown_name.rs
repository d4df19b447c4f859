use aioxide::timer;

#[timer(cron = "@often")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
