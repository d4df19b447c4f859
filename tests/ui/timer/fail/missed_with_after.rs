use aioxide::timer;

#[timer(after = 100ms, missed = skip)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
