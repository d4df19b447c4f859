use aioxide::timer;

#[timer(cron = "0 3 * * *", zone = seoul)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
