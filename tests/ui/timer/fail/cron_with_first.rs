use aioxide::timer;

#[timer(cron = "0 3 * * *", first = 1s)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
