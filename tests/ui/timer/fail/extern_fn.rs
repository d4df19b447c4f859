use aioxide::timer;

#[timer(100ms)]
async extern "C" fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
