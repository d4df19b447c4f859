use aioxide::timer;

#[timer(100ms)]
struct Heartbeat;

fn main() {
    let _ = Heartbeat;
}
