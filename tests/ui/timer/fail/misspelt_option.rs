use aioxide::timer;

#[timer(100ms, overlab = skip)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
