#![deny(warnings)]

use aioxide::{Worker, server};

#[server]
async fn echo(worker: Worker) {
    let _ = worker;
    yield_().await;
}

fn main() {
    echo().run();
}
