use aioxide::timer;

#[timer(1s, single = store)]
async fn heartbeat(store: String) {}

fn main() {
    heartbeat(String::new()).detach();
}
