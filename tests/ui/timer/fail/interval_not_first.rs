use aioxide::timer;

#[timer(overlap = skip, 100ms)]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
