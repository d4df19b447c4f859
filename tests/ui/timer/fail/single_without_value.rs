use aioxide::timer;

#[timer(1s, single = )]
async fn heartbeat() {}

fn main() {
    heartbeat().detach();
}
