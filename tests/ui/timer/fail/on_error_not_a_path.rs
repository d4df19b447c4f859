use aioxide::timer;

#[timer(100ms, on_error = |_, _| {})]
async fn heartbeat() {}

fn main() {
    let _timer = heartbeat();
}
