use aioxide::timer;

#[timer(cron = "0 3 * * *", zone = "Seoul")]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
