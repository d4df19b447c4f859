use aioxide::timer;

struct Silent;

#[timer(100ms)]
async fn heartbeat() -> Result<(), Silent> {
    Err(Silent)
}

fn main() {
    heartbeat().detach();
}
