use aioxide::{Server, Worker, server};

#[server(isolation = process, balance)]
async fn echo(worker: Worker) {
    drop(worker);
    yield_().await;
}

fn main() {
    let _: Server = echo();
}
