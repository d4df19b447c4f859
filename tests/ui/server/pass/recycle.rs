use aioxide::{Server, Worker, server};
use std::time::Duration;

#[server(recycle = after(1h))]
async fn alone(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(recycle = [after(time), after_connections(100_000), over(512MiB)], drain_delay = 5s)]
async fn in_a_list(worker: Worker, time: Duration) {
    drop((worker, time));
    yield_().await;
}

fn main() {
    let _: (Server, Server) = (alone(), in_a_list(Duration::from_secs(60)));
}
