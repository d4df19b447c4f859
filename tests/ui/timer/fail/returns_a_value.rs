use aioxide::timer;

#[timer(100ms)]
async fn heartbeat() -> u32 {
    7
}

fn main() {
    heartbeat().detach();
}
