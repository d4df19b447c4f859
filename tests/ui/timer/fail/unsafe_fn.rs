use aioxide::timer;

#[timer(100ms)]
async unsafe fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
