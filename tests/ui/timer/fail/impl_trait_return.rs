use aioxide::timer;

#[timer(100ms)]
async fn heartbeat() -> Result<(), impl std::fmt::Display> {
    Err("no")
}

fn main() {
    heartbeat().detach();
}
