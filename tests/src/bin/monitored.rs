//! A server whose attribute says that it can be looked into.

use aioxide::{Worker, server};
use aioxide_tests::fixture;

#[server(workers = 1, init = fixture::log, monitor)]
async fn main(_: Worker) {
    yield_().await;
}
