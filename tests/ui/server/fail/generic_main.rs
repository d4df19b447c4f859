use aioxide::{Worker, server};

#[server]
async fn main<T>(worker: Worker) {
    let _ = worker;
    yield_().await;
}
