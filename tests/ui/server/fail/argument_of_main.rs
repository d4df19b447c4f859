use aioxide::{Worker, server};

#[server]
async fn main(worker: Worker, port: u16) {
    println!("{} at {port}", worker.index());
    yield_().await;
}
