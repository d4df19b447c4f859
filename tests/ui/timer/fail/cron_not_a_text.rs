use aioxide::timer;

#[timer(cron = 5)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
