use aioxide::timer;

#[timer(100ms)]
#[tokio::main]
async fn heartbeat() {}

fn main() {
    let _timer: aioxide::Timer = heartbeat();
}
