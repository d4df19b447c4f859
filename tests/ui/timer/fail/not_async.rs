use aioxide::timer;

#[timer(100ms)]
fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
