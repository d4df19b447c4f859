use aioxide::timer;

#[timer("10 ms")]
async fn heartbeat() {}

fn main() {
    let _timer: aioxide::Timer = heartbeat();
}
