use aioxide::timer;

#[timer(100ms)]
async fn heartbeat() {
    7
}

fn main() {
    heartbeat().detach();
}
