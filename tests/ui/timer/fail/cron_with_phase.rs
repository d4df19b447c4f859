use aioxide::timer;

#[timer(cron = "0 3 * * *", phase = random)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
