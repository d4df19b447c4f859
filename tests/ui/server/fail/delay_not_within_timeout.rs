use aioxide::{Server, Worker, server};

#[server(drain_delay = 25s)]
async fn waits(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(drain_delay = 3s, shutdown_timeout = 3s)]
async fn waits_as_long(worker: Worker) {
    drop(worker);
    yield_().await;
}

fn main() {
    let _: (Server, Server) = (waits(), waits_as_long());
}
