use aioxide::timer;

#[timer(100ms)]
#[tracing::instrument]
async fn heartbeat(host: u32) {
    let _ = host;
}

fn main() {
    let _timer: aioxide::Timer = heartbeat(1);
}
